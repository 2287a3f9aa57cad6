"""Every regular expression of the source takes linear time for every input.

The expressions are found by walking the source. Hostile inputs are made from the expression itself: what
precedes each part, then that part again and again, then something that cannot match.
"""

import ast
import importlib
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

_parser: Any = importlib.import_module("re._parser")
ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "src", ROOT / "client" / "src"]
FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
LONG = 32 * 1024  # characters: a quadratic expression takes seconds of processor time for that many
# Values from which a function composes an expression, by the name of the variable.
LOCAL: dict[str, Callable[[Any], Iterable[str]]] = {
    "pattern": lambda module: module._PATHS.values(),
    "written": lambda _: ["x"],  # a pattern of a user, which is compiled only
    "registries": lambda _: [r"localhost:5001|\[::1\]:5002"],
}
PATIENCE = 1.0  # seconds of processor time; a linear one takes some milliseconds
AGAIN = 0.05  # seconds; an exception is lost if it is raised in a destructor, so it is raised again


class Expression(NamedTuple):
    where: str
    pattern: str | bytes
    flags: int
    methods: frozenset[str]


def modules() -> Iterator[tuple[str, Path]]:
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            if "migrations" not in path.parts and path.name != "__main__.py":
                name = ".".join(path.relative_to(source).with_suffix("").parts)
                yield name.removesuffix(".__init__"), path


def expressions_of(name: str, path: Path) -> Iterator[Expression]:
    tree = ast.parse(path.read_text())
    if not any(_is_expression(node) for node in ast.walk(tree)):
        return
    module = importlib.import_module(name)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not _is_expression(node):
            continue
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        function = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        # What is given as `pattern` to a model is searched for.
        methods = _uses(tree, node) if function == "compile" else {function} & FUNCTIONS or {"search"}
        for pattern, flags in _values(node, module, where):
            yield Expression(where, pattern, flags, frozenset(methods))


def _is_expression(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and (
        (
            isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in FUNCTIONS
        )
        or any(keyword.arg == "pattern" for keyword in node.keywords)
        or (isinstance(node.func, ast.Name) and node.func.id == "RegexValidator")
    )


def _uses(tree: ast.AST, call: ast.Call) -> set[str]:
    """The methods that the module calls on the compiled expression; `search` if it passes it on."""
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and node.value is call
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
    }
    return found & FUNCTIONS or {"search"}


def _values(call: ast.Call, module: ModuleType, where: str) -> Iterator[tuple[str | bytes, int]]:
    """The expression of the module, with every value of LOCAL that it uses."""
    given = next((k.value for k in call.keywords if k.arg == "pattern"), call.args[0] if call.args else None)
    assert given is not None, f"{where}: no expression found"
    flags = next((k.value for k in call.keywords if k.arg == "flags"), None)
    if flags is None and isinstance(call.func, ast.Attribute) and call.func.attr == "compile":
        flags = call.args[1] if len(call.args) > 1 else None
    number = int(eval(compile(ast.Expression(flags), where, "eval"), vars(module))) if flags else 0
    used = {node.id for node in ast.walk(given) if isinstance(node, ast.Name)} & LOCAL.keys()
    known: list[dict[str, str]] = [{name: part} for name in used for part in LOCAL[name](module)] or [{}]
    for names in known:
        yield eval(compile(ast.Expression(given), where, "eval"), {**vars(module), **names}), number


def hostile(expression: Expression) -> Iterator[str]:
    """Long inputs. Each begins like the expression, and then repeats one of its parts."""
    pattern = expression.pattern.decode() if isinstance(expression.pattern, bytes) else expression.pattern
    parts = list(_parts(_parser.parse(pattern, expression.flags & ~re.DEBUG)))
    # Also repeat the whole prefix of a part: many positions at which the expression may begin.
    pumps = {pump for pair in parts for pump in pair if pump} | {
        "a",
        "A",
        "0",
        " ",
        "\t",
        "\n",
        "://",
        "-",
        "/",
    }
    for prefix in {prefix for prefix, _ in parts} | {""}:
        for pump in pumps:
            yield prefix + pump * (LONG // len(pump)) + "\x00"


def _parts(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each part of a parsed expression as a text that matches it, with a prefix that leads to it."""
    for operation, argument in tree:
        name = str(operation)
        text = _sample(operation, argument)
        yield prefix, text
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            yield from _parts(argument[2], prefix)
        elif name == "SUBPATTERN":
            yield from _parts(argument[3], prefix)
        elif name == "BRANCH":
            for branch in argument[1]:
                yield from _parts(branch, prefix)
        prefix += text
        yield prefix, text


def _sample(operation: Any, argument: Any) -> str:
    name = str(operation)
    if name == "LITERAL":
        return chr(argument)
    if name == "IN":
        return _member(argument)
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return "".join(_sample(*each) for each in argument[2]) * max(1, argument[0])
    if name == "SUBPATTERN":
        return "".join(_sample(*each) for each in argument[3])
    if name == "BRANCH":
        return "".join(_sample(*each) for each in argument[1][0])
    return "" if name in ("AT", "ASSERT", "ASSERT_NOT") else "a"


def _member(items: Any) -> str:
    if str(items[0][0]) == "NEGATE":
        refused = {chr(value) for kind, value in items[1:] if str(kind) == "LITERAL"}
        return next(each for each in "aA0-_ ./" if each not in refused)
    kind, value = items[0]
    if str(kind) == "CATEGORY":
        return {"CATEGORY_DIGIT": "0", "CATEGORY_SPACE": " "}.get(str(value), "a")
    return chr(value[0] if str(kind) == "RANGE" else value)


class TooSlow(Exception):
    pass


def slow(expression: Expression) -> str | None:
    """The beginning of an input for which the expression takes more than linear time."""
    compiled = re.compile(expression.pattern, expression.flags)

    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, stop)
    try:
        for text in hostile(expression):
            given: Any = text.encode() if isinstance(expression.pattern, bytes) else text
            for method in expression.methods:
                arguments = ("", given) if method in ("sub", "subn") else (given,)
                # The engine of expressions checks for signals while it works.
                signal.setitimer(signal.ITIMER_PROF, PATIENCE, AGAIN)
                try:
                    found = getattr(compiled, method)(*arguments)
                    if method == "finditer":
                        list(found)
                except TooSlow:
                    return f"{method}({text[:60]!r}...)"
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
    finally:
        signal.signal(signal.SIGPROF, before)
    return None


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(?P<url>[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@", "sub"),
        (r"(a+)+b", "fullmatch"),
        (r"\s+$", "search"),
        (r"Set-Cookie:.*secret.*end", "search"),
        (r"x[0-9]*[0-9a-f]*[0-9]*z", "match"),
    ],
)
def test_an_expression_that_grows_faster_than_its_input_is_found(pattern: str, method: str) -> None:
    assert slow(Expression("here", pattern, 0, frozenset({method})))


def test_every_expression_of_the_source_is_linear() -> None:
    begun = time.process_time()
    found = [each for name, path in modules() for each in expressions_of(name, path)]
    assert len(found) > 50, "the expressions are not found any more"
    faults = [f"{each.where}: {text}" for each in dict.fromkeys(found) if (text := slow(each))]
    assert not faults, "\n".join(faults)
    assert time.process_time() - begun < 240
