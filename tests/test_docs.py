"""The documentation says what the code does: settings, states, commands, error codes; and no link is dead."""

import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from pydantic_core import PydanticUndefined

from gridapps.config.environment import Environment
from gridapps.runs.states import State

TOP = Path(__file__).parents[1]
DOCS = TOP / "docs"
TRACKED = subprocess.run(
    ["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, check=True
).stdout.split("\0")[:-1]
PAGES = [name for name in TRACKED if name.endswith(".md")]


def test_every_setting_is_documented_with_its_default():
    rows = dict(re.findall(r"^\| `(GRIDAPPS_\w+)` \| (\S+) \|", (DOCS / "settings.md").read_text(), re.M))
    expected = {}
    for name, setting in Environment.model_fields.items():
        assert setting.default is not PydanticUndefined, f"{name} has no default"
        shown = "empty" if setting.default == "" else f"`{setting.default}`"
        expected[f"GRIDAPPS_{name.upper()}"] = shown
    assert rows == expected


def test_every_state_is_in_the_vocabulary():
    text = (DOCS / "vocabulary.md").read_text()
    assert [state for state in State if state not in text] == []


def test_generated_pages_are_fresh():
    done = subprocess.run(
        [sys.executable, TOP / "scripts" / "pages.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_has_a_help_text():
    from gridapps_client.cli import main as client

    from gridapps.server.cli import main as server

    assert [path for path, command in (*_commands(server), *_commands(client)) if not command.help] == []


def _commands(group: click.Group) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        found += _commands(command) if isinstance(command, click.Group) else [(name, command)]
    return found


def test_every_error_code_is_documented():
    from gridapps.api.errors import CODES

    rows = re.findall(r"^\| (\d{3}) \| (.*) \|$", (DOCS / "api.md").read_text(), re.M)
    # A note in brackets may name headers and other things.
    documented = {
        code: int(status)
        for status, codes in rows
        for code in re.findall(r"`([a-z-]+)`", re.sub(r"\(.*?\)", "", codes))
    }
    assert documented == CODES


def test_every_event_of_the_audit_has_a_function_and_is_documented():
    from gridapps.audit import record
    from gridapps.audit.models import Entry

    functions = [
        name for name, value in vars(record).items()
        if inspect.isfunction(value) and value.__module__ == record.__name__ and not name.startswith("_")
    ]  # fmt: skip
    assert sorted(functions) == sorted(re.sub(r"\W", "_", event) for event in Entry.Event)
    details = {event.value: _details(getattr(record, re.sub(r"\W", "_", event))) for event in Entry.Event}
    for event in Entry.Event:
        if event.startswith("share."):
            details[event] |= {"release", "access_tag"}
    assert _documented_events() == details


def _documented_events() -> dict[str, set[str]]:
    """The names of the details of each event, as docs/audit.md has them."""
    table = (DOCS / "audit.md").read_text().partition("## Events")[2]
    return {
        event: set(re.findall(r"`(\w+)`", details))
        for events, details in re.findall(r"^\| (`.*`) \|.*\|(.*)\|$", table, re.M)
        for event in re.findall(r"`([a-z.-]+)`", events)
    }


def _details(function: Callable[..., None]) -> set[str]:
    """What it takes besides the actor and, first, the subject. `values` are the fields of any row."""
    _, *details = [name for name in inspect.signature(function).parameters if name != "by"]
    return set(details) - {"values"}


def _shown_commands() -> list[str]:
    """Commands in blocks of the pages. Decisions tell what was, and may show older ones."""
    texts = [(TOP / page).read_text() for page in PAGES if not page.startswith("docs/decisions/")]
    blocks = [block for text in texts for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("make ", "gridapps", "scripts/"))]


def test_shown_commands_exist():
    from gridapps_client.cli import main as client

    from gridapps.server.cli import main as server

    commands = _shown_commands()
    assert len(commands) > 20
    targets = re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.M)
    for line in commands:
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert words[1] in targets, line
        elif words[0].startswith("scripts/"):
            assert (TOP / words[0]).exists(), line
        else:
            _resolve({"gridapps": client, "gridapps-server": server}[words[0]], words[1:], line)


def _resolve(command: click.Command, words: list[str], line: str) -> None:
    """Every word is a command's name until a command is reached, and then every option is one of its."""
    while isinstance(command, click.Group):
        assert words, f"{line}: names no command"
        assert words[0] in command.commands, f"{line}: no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.split("=")[0] for word in words if word.startswith("-") and word != "-"} <= known, line


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str):
    text = (TOP / page).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (TOP / page).parent / path if path else TOP / page
        assert linked.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in _anchors(linked.read_text()), f"{page}: {target}"


def test_the_examples_are_those_of_the_page():
    page = (TOP / "docs" / "bring-your-program.md").read_text()
    examples = {path.parent.name for path in (TOP / "apps" / "examples").glob("*/Dockerfile")}
    assert set(re.findall(r"^\| \[(\w+)\]\(\.\./apps/examples/", page, re.M)) == examples
    for name in examples:
        dockerfile = (TOP / "apps" / "examples" / name / "Dockerfile").read_text()
        assert "\nENTRYPOINT [" in dockerfile, name
        assert "chmod -R a+rX" in dockerfile, name


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_a_page_names_exist(page: str):
    """Such as `tests/worker/test_machine.py::test_x` in the threat model, or a module alone."""
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (TOP / page).read_text()):
        assert (TOP / path).is_file(), f"{page}: {path}"
        text = (TOP / path).read_text()
        assert not name or re.search(rf"^ *(?:def|class) {name}\b", text, re.M), f"{page}: {path}::{name}"


def test_the_threat_model_names_every_module_of_attacks():
    text = (DOCS / "security.md").read_text()
    modules = sorted(path.name for path in (TOP / "tests" / "attacks").glob("test_*.py"))
    assert [name for name in modules if name != "test_scene.py" and f"tests/attacks/{name}" not in text] == []


SOURCE_LIKE = ["src", "deploy", "scripts", "apps", "demo", "client", "Makefile", "pyproject.toml", "tests"]


def test_pages_that_the_source_names_exist():
    """Such as docs/settings.md in a message, a docstring or a comment."""
    listed = subprocess.run(
        ["git", "grep", "-noE", r"docs/[A-Za-z0-9/-]+\.md", "--", *SOURCE_LIKE],
        cwd=TOP, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert len(listed) > 30
    assert [line for line in listed if not (TOP / line.rpartition(":")[2]).is_file()] == []


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_a_page_names_exist(page: str):
    """Such as `runs/queue.py`, below the packages or below the top."""
    roots = (TOP, TOP / "src" / "gridapps", TOP / "client" / "src" / "gridapps_client")
    names = re.findall(r"`((?:\w+/)+\w+\.py)`", (TOP / page).read_text())
    assert [name for name in names if not any((root / name).is_file() for root in roots)] == []


def test_the_layout_is_that_of_the_import_contract():
    """The tables of packages in architecture.md and CONTRIBUTING.md have the layers of import-linter."""
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [set(layer.split(" | ")) for layer in next(c["layers"] for c in contracts if "layers" in c)]
    table = (
        (DOCS / "architecture.md").read_text().partition("| package | purpose |\n")[2].partition("\n\n")[0]
    )
    assert [set(re.findall(r"`(\w+)`", row.split(" | ")[0])) for row in table.splitlines()[1:]] == layers
    picture = (
        (TOP / "CONTRIBUTING.md")
        .read_text()
        .partition("## Where things are\n\n```\n")[2]
        .partition("\n```")[0]
    )
    assert [set(line[:40].split()) for line in picture.splitlines()] == layers


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text()
    pages = [path.name for path in DOCS.glob("*.md") if path.name != "README.md"]
    assert [page for page in pages if f"]({page})" not in index] == []


def test_titles_of_decisions_have_their_numbers():
    paths = sorted((DOCS / "decisions").glob("*.md"))
    titles = {path.name: path.read_text().partition("\n")[0] for path in paths}
    assert [name for name, title in titles.items() if not title.startswith(f"# {int(name[:4])}. ")] == []


@pytest.mark.parametrize("page", [path.name for path in sorted(DOCS.glob("*.md"))])
def test_every_page_says_in_its_first_line_for_whom_it_is(page: str):
    title, empty, first, *_ = (DOCS / page).read_text().splitlines()
    assert title.startswith("# ")
    assert empty == ""
    assert re.match(r"For [A-Za-z ,]+: .{20,}", first), first


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_path_of_a_machine_and_no_package_registry_in_the_tree():
    paths = r"(^|[^A-Za-z0-9_.~-])/(work|farm|root|home/[a-z]+)/"
    hosts = "|".join(("pypi" + r"\.org", "python" + r"hosted\.", "npm" + r"js\.", "crates" + r"\.io/"))
    found = []
    for name in TRACKED:
        path = TOP / name
        if not path.is_file() or name == "tests/test_docs.py":
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{name}: {line.strip()[:120]}"
            for line in text.splitlines()
            if re.search(f"{paths}|{hosts}", line)
        ]
    assert found == []
