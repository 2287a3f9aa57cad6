"""Small units: a module of the source has at most 400 lines, and the body of a function at most 40."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
SOURCES = [
    path
    for directory in ("src", "client/src", "bench", "demo", "scripts")
    for path in sorted((TOP / directory).rglob("*.py"))
    if "migrations" not in path.parts
]
LONGEST_MODULE = 400  # lines
LONGEST_BODY = 40  # lines, without the parameters and the docstring


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 300


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(TOP)) for path in SOURCES])
def test_modules_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    assert [name for name, size in _bodies(text) if size > LONGEST_BODY] == []


def _bodies(text: str) -> Iterator[tuple[str, int]]:
    """Each function, with the lines of its body."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            has_docstring = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[1 if has_docstring else 0]
            yield node.name, (node.end_lineno or 0) - first.lineno + 1
