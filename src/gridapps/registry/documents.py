"""JSON that all readers understand alike: strict UTF-8, finite numbers, no name that stands for another.

Go's encoding/json, which the engine and the registry use, matches names of fields without regard to case and
takes the last of several; Python's takes them by letter. `Document` refuses what they would read differently.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any, NoReturn


class Ambiguous(ValueError):
    """The text is no JSON object, or not one that can be read in one way only."""


class Document:
    """An object of a JSON text. Its names count only after `knowing` has checked them."""

    def __init__(self, pairs: list[tuple[str, Any]], what: str = "The document") -> None:
        self._pairs = pairs
        self._values = dict(pairs)
        self.what = what

    def knowing(self, names: Collection[str]) -> "Document":
        """Itself, once no name comes twice or is another spelling of one of `names`. Raises Ambiguous."""
        known = {name.casefold(): name for name in names}
        for name, _ in self._pairs:
            if known.get(name.casefold(), name) != name:
                raise Ambiguous(
                    f"{self.what} has {name[:100]!r} where only {known[name.casefold()]!r} is meant."
                )
        if len(self._values) != len(self._pairs):
            raise Ambiguous(f"{self.what} has a name twice in one object.")
        return self

    def get(self, name: str) -> Any:
        """A value, or None."""
        return self._values.get(name)

    def document(self, name: str) -> "Document":
        """An object; an empty one when it is missing or null."""
        value = self._values.get(name)
        if value is None:
            return Document([], self.what)
        if not isinstance(value, Document):
            raise Ambiguous(f"{self.what} has something else than an object as {name!r}.")
        value.what = self.what
        return value

    def entries(self, name: str) -> list[Any]:
        """A list; an empty one when it is missing or null."""
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise Ambiguous(f"{self.what} has something else than a list as {name!r}.")
        return value

    def documents(self, name: str) -> list["Document"]:
        """A list of objects."""
        found = self.entries(name)
        if not all(isinstance(entry, Document) for entry in found):
            raise Ambiguous(f"{self.what} has something else than objects in {name!r}.")
        for entry in found:
            entry.what = self.what
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


def read(content: bytes, *, what: str) -> Document:
    """Read a JSON object. `what` begins the sentences of errors. Raises Ambiguous."""
    try:
        value = json.loads(content.decode(), object_pairs_hook=Document, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Ambiguous(f"{what} is not valid JSON in UTF-8.") from None
    if not isinstance(value, Document):
        raise Ambiguous(f"{what} is not a JSON object.")
    value.what = what
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
