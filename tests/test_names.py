"""One name, one thing: modules and public classes of different packages have different names.

Routers and pages (`api`, `web`) and commands are named after what they show, so they are not compared.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "gridapps"
NOT_COMPARED = {("api",), ("web",), ("server", "commands")}

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


def _modules() -> Iterator[tuple[str, Path]]:
    """Each compared module, with its top-level package."""
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).parts
        compared = not any(parts[: len(top)] == top for top in NOT_COMPARED)
        if compared and "migrations" not in parts and not path.stem.startswith("__"):
            yield parts[0], path


def _classes(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _doubled(named: Iterator[tuple[str, str]]) -> set[str]:
    packages = defaultdict(set)
    for name, package in named:
        packages[name].add(package)
    return {name for name, found in packages.items() if len(found) > 1}
