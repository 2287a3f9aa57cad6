"""JSON that every reader understands alike: strict UTF-8, finite numbers, unambiguous names.

Go's encoding/json, which the engine and the registry use, ignores the case of names and takes the last of
several equal ones. Python compares names exactly. `Document` refuses what the two would read differently.
"""

import json
import math
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

MAX_DEPTH = 64
MAX_OBJECTS = 20_000  # in one text: each takes about a hundred times the memory of its two characters


class Invalid(Exception):
    """What was pushed is refused. `reasons` are sentences."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = list(reasons)


class Ambiguous(Invalid):
    """The text is not a JSON object, or two readers could understand it differently."""


class Document:
    """An object of a JSON text. Call `knowing` before relying on its names."""

    def __init__(self, pairs: list[tuple[str, Any]], what: str = "The document") -> None:
        self._pairs = pairs
        self._values = dict(pairs)
        self.what = what

    def knowing(self, names: Collection[str]) -> "Document":
        """Itself, after checking that no name is another spelling of one of `names`. Raises Ambiguous."""
        known = {name.casefold(): name for name in names}
        for name, _ in self._pairs:
            if known.get(name.casefold(), name) != name:
                raise Ambiguous(
                    f"{self.what} has {name[:100]!r} where only {known[name.casefold()]!r} is meant."
                )
        return self

    def plain(self) -> dict[str, Any]:
        """The same as dictionaries and lists."""
        return {name: _plain(value) for name, value in self._values.items()}

    def inside(self) -> list[Any]:
        """Names and values. Raises Ambiguous if a name occurs twice."""
        if len(self._values) != len(self._pairs):
            raise Ambiguous("has a name twice in one object.")
        return [*self._values, *self._values.values()]

    def get(self, name: str) -> Any:
        """A value, or None."""
        return self._values.get(name)

    def document(self, name: str) -> "Document":
        """An object; an empty one if it is missing or null. Raises Ambiguous."""
        value = self._values.get(name)
        if value is None:
            return Document([], self.what)
        if not isinstance(value, Document):
            raise Ambiguous(f"{self.what} has a value other than an object as {name!r}.")
        value.what = self.what
        return value

    def entries(self, name: str) -> list[Any]:
        """A list; an empty one if it is missing or null. Raises Ambiguous."""
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise Ambiguous(f"{self.what} has a value other than a list as {name!r}.")
        return value

    def documents(self, name: str) -> list["Document"]:
        """A list of objects. Raises Ambiguous."""
        found = self.entries(name)
        if not all(isinstance(entry, Document) for entry in found):
            raise Ambiguous(f"{self.what} has values other than objects in {name!r}.")
        for entry in found:
            entry.what = self.what
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


def read_document(content: bytes, *, what: str) -> Document:
    """Read a JSON object. `what` begins the sentences of errors. Raises Ambiguous."""
    objects = 0

    def document(pairs: list[tuple[str, Any]]) -> Document:
        nonlocal objects
        objects += 1
        if objects > MAX_OBJECTS:
            raise Ambiguous(f"{what} has more than {MAX_OBJECTS} objects.")
        return Document(pairs)

    try:
        value = json.loads(
            content.decode(), object_pairs_hook=document, parse_constant=_refuse, parse_float=_finite
        )
    except Ambiguous:
        raise
    except (ValueError, RecursionError):
        raise Ambiguous(f"{what} is not valid JSON in UTF-8.") from None
    if not isinstance(value, Document):
        raise Ambiguous(f"{what} is not a JSON object.")
    try:
        _judge(value)
    except Ambiguous as error:
        raise Ambiguous(f"{what} {error}") from None
    value.what = what
    return value


def _judge(document: Document) -> None:
    """Check all values, including those in fields that are never read. Raises Ambiguous."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        below = []
        for value in level:
            if isinstance(value, Document):
                below += value.inside()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and not _is_unicode(value):
                raise Ambiguous("has an invalid character: half of a surrogate pair.")
        if not below:
            return
        level = below
    raise Ambiguous(f"nests objects and lists deeper than {MAX_DEPTH}.")


def _plain(value: Any) -> Any:
    if isinstance(value, Document):
        return value.plain()
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(number)
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
