"""The form of what users and engineers read: messages, pages, docstrings and comments.

Messages are collected from the syntax tree of the source. A placeholder of an f-string is shown as `{...}`.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("src", "client/src") for path in (TOP / top).rglob("*.py"))
PAGES = sorted(
    {*TOP.glob("*.md"), *(path for top in ("docs", "apps", "client") for path in (TOP / top).rglob("*.md"))}
)
# Exceptions with a sentence that users, developers or operators read; classes below them count as well.
SHOWN = {
    *("Refused", "ClickException", "UsageError", "BadParameter", "GridAppsError", "SandboxError", "Denied"),
    *(
        "NotTrusted",
        "NotAllowed",
        "NothingToRun",
        "NodeTaken",
        "InvalidNode",
        "InvalidBundle",
        "BrokenAuthority",
    ),
    *("BadTarget", "CannotOpen", "ExportFileChanged", "Spoiled", "StorageUnavailable", "CacheFull", "Behind"),
    *("UnusableKeys", "Malformed"),
}
# Their texts may be predicates, such as "has a sparse file.", to which the caller adds the subject.
PREDICATES = {"Invalid", "BadName", "_LeaveOut"}
HOLE = "{...}"
SIZES = r"(bytes|memory|disk|limit|reserved|(?<!chunk_)size)$"  # ends of expressions that are bytes

# Mannered or ambiguous English, and what to write instead.
BANNED = {
    r"whoever": "name the person",
    r"nobody(?! account)(?<!`nobody)(?<!account nobody)": "name who cannot",
    r"anybody": "any user",
    r"by and by": "periodically",
    r"(?<=[.:;,] )that were": "that would be, or: too many ...",
    r"(is|are) none any ?more": "no longer counts",
    r"betimes": "early",
    r"thereof": "of it",
    r"rang": "woke",
}
# Commands that end a message without a full stop, so that they can be copied.
COMMAND = r"(?:gridapps|gridapps-server|apt-get|chmod|mkdir|openssl|\{\.\.\.\}|--key) ?[^.]*(?:\.tar)?"
# Names in snake case that users meet: options of other programs, and fields of the API.
KNOWN = {"no_root_squash"}


class Message(NamedTuple):
    where: str
    text: str
    predicate: bool  # a part of a sentence, without its subject
    unitless: tuple[str, ...]  # placeholders that show a size without a unit

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in SOURCES}


@cache
def _classes() -> dict[str, set[str]]:
    """Each class of the source with the names of its bases."""
    found: dict[str, set[str]] = {}
    for tree in _trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(map(_name, node.bases))
    return found


@cache
def _below(*roots: str) -> frozenset[str]:
    """The classes of these names, and all that derive from them."""
    found = set(roots)
    while more := {name for name, bases in _classes().items() if bases & found} - found:
        found |= more
    return frozenset(found)


def _texts(node: ast.expr) -> list[str]:
    """The texts that an expression can have. A part that only the running program knows is a hole."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in values)]
        case ast.IfExp(body=one, orelse=other):
            return _texts(one) + _texts(other)
        case ast.BinOp(left=left, op=ast.Add(), right=right) if _texts(left) or _texts(right):
            return [a + b for a in _texts(left) or [HOLE] for b in _texts(right) or [HOLE]]
    return []


def _unitless(node: ast.expr) -> tuple[str, ...]:
    """Placeholders of sizes that are neither formatted with a unit nor followed by one."""
    if not isinstance(node, ast.JoinedStr):
        return ()
    found = []
    for part, after in zip(node.values, [*node.values[1:], None], strict=True):
        if isinstance(part, ast.FormattedValue) and not isinstance(part.value, ast.Call):
            follows = str(after.value) if isinstance(after, ast.Constant) else ""
            shown = ast.unparse(part.value)
            if re.search(SIZES, shown) and not re.match(r" (bytes|characters)\b", follows):
                found.append(shown)
    return tuple(found)


def _shown(node: ast.AST) -> list[ast.expr]:
    """The parts of a node that a user can read: arguments of an exception, a field's pair of JSON pointer and
    sentence, the text of an outcome, or a finding of the doctor."""
    match node:
        case ast.Call(func=function, args=arguments, keywords=keywords):
            named = [keyword.value for keyword in keywords if keyword.arg in ("text", "fault")]
            shown = _name(function) in _below(*SHOWN, *PREDICATES)
            return [*(arguments[:2] if shown else []), *named]
        case ast.Tuple(elts=[ast.Constant(value=str(pointer)), sentence]) if pointer.startswith("/"):
            return [sentence]
    return []


def _is_predicate(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _name(node.func) in _below(*PREDICATES)


@cache
def messages() -> list[Message]:
    return [
        Message(f"{path.relative_to(TOP)}:{part.lineno}", text, _is_predicate(node), _unitless(part))
        for path, tree in _trees().items()
        for node in ast.walk(tree)
        for part in _shown(node)
        for text in _texts(part)
        if " " in text  # others are codes and pointers
    ]


def _faulty(pattern: str, *, want: bool) -> list[str]:
    return [str(message) for message in messages() if bool(re.search(pattern, message.text, re.S)) != want]


def test_messages_are_found():
    assert len(messages()) > 250
    texts = {message.text for message in messages()}
    assert "A bearer token is needed." in texts
    assert "There is an access tag {...} already." in texts


def test_messages_begin_like_sentences():
    begins = re.compile(r"[A-Z]|\d|\{\.\.\.\}|--[a-z]")
    predicate = re.compile(r"[a-z]+s |has |was |and |would |cannot ")
    faulty = [
        str(message)
        for message in messages()
        if not begins.match(message.text) and not (message.predicate and predicate.match(message.text))
    ]
    assert faulty == []


def test_messages_end_like_sentences():
    """With a full stop or question mark, with a reason that is inserted, or with a command to copy."""
    assert _faulty(rf"([.?]|\s\{{\.\.\.\}}|{COMMAND})$", want=True) == []


def test_messages_name_nothing_internal():
    classes = {name for name in _classes() if re.search(r"[a-z][A-Z]", name)}
    inside = rf"\bgridapps\.\w|\bgridapps_client\b|\b({'|'.join(sorted(classes))})\b"
    assert _faulty(inside, want=False) == []
    fields = set(re.findall(r"[a-z]+(?:_[a-z]+)+", (TOP / "docs" / "api.md").read_text()))
    named = {
        f"{message}: {word}"
        for message in messages()
        for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", message.text)
        if word not in fields | KNOWN
    }
    assert sorted(named) == []


def test_settings_that_messages_name_exist():
    from gridapps.config.environment import Environment

    settings = {f"GRIDAPPS_{name.upper()}" for name in Environment.model_fields}
    client = {"GRIDAPPS_URL", "GRIDAPPS_TOKEN", "GRIDAPPS_CA", "GRIDAPPS_CONFIG"}
    named = {word for message in messages() for word in re.findall(r"GRIDAPPS_[A-Z_]+", message.text)}
    assert named, "no message names a setting"
    assert named - settings - client == set()


def test_messages_show_sizes_with_units():
    assert [f"{message}: {message.unitless}" for message in messages() if message.unitless] == []


def _banned(text: str) -> Iterator[str]:
    for pattern, instead in BANNED.items():
        if found := re.search(rf"\b{pattern}\b", text, re.I):
            yield f"{found[0]!r} (instead: {instead})"


def test_messages_are_plain():
    assert [f"{message}: {fault}" for message in messages() for fault in _banned(message.text)] == []


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings and comments, each with its line."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield node.body[0].lineno, docstring
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_docstrings_and_comments_are_plain():
    faults = [
        f"{path.relative_to(TOP)}:{line}: {fault}"
        for path in SOURCES
        for line, text in _prose(path)
        for fault in _banned(text)
    ]
    assert faults == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(TOP).as_posix())
def test_pages_are_plain(page: Path):
    faults = [
        f"{number}: {fault}"
        for number, line in enumerate(page.read_text().splitlines(), 1)
        for fault in _banned(line)
    ]
    assert faults == []
