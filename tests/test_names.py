"""One name, one thing: modules and public classes of different packages have different names.

Routers and pages (`api`, `web`) are named after what they show, so they are not compared. The name of a
function can be searched for.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "gridapps"
NOT_COMPARED = {"api", "web"}

# Modules that each package of its kind has, and why they share a name.
CONVENTIONS = {
    "apps": "Django's configuration of an app",
    "models": "Django's tables of an app",
    "queries": "the reads of a package",
    "operations": "the writes of a package",
    "errors": "the refusals of a package",
    "states": "the table of states of a package",
}


def test_no_module_name_is_used_in_two_packages() -> None:
    assert _doubled((path.stem, package) for package, path in _modules()) <= set(CONVENTIONS)


def test_no_class_name_is_used_in_two_packages() -> None:
    names = ((name, package) for package, path in _modules() for name in _classes(path))
    assert _doubled(names) == set()


def test_no_public_function_begins_with_of() -> None:
    """`left_out_of_run` can be searched for, `of_run` says nothing without its module."""
    named = (name for _, path in _modules() for name in _functions(path))
    assert [name for name in named if name == "of" or name.startswith("of_")] == []


def _modules() -> Iterator[tuple[str, Path]]:
    """Each compared module, with its package, such as `server/commands`."""
    for path in sorted(SOURCE.rglob("*.py")):
        package = path.parent.relative_to(SOURCE)
        compared = package.parts[:1] and package.parts[0] not in NOT_COMPARED
        if compared and package.name != "migrations" and not path.stem.startswith("__"):
            yield package.as_posix(), path


def _functions(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node.name


def _classes(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _doubled(named: Iterator[tuple[str, str]]) -> set[str]:
    packages = defaultdict(set)
    for name, package in named:
        packages[name].add(package)
    return {name for name, found in packages.items() if len(found) > 1}
