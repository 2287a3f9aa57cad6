"""What a storage does: keeps objects under keys such as `outputs/RUN/0/1/log`, for every node of an instance.

An object is seen whole or not at all, and never changes. Keys are words with `/` between them, at most 1,000
bytes. Every call may raise StorageUnavailable, and may then be repeated. Several threads may call at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


class StorageUnavailable(Exception):
    """The storage does not answer, refuses, or is not mounted: ask again later. The message is a sentence."""


class Missing(Exception):
    """There is no object of this key. The message is the key."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An object in a listing."""

    key: str
    size: int  # bytes
    modified: datetime  # aware


class Readable(Protocol):
    """What is put: an open file, or something that looks at the bytes as they pass."""

    def read(self, size: int = -1, /) -> bytes: ...


class Storage(Protocol):
    """One place for exports and outputs."""

    def local(self, key: str) -> Path | None:
        """Where files of this key lie for every node to read and to write; None when they are objects."""

    def put(self, key: str, source: Readable, *, size: int) -> None:
        """Store what `source` reads, of `size` bytes. When it raises, nothing is stored. Idempotent."""

    def read(self, key: str, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces; none when `start` is at the end or beyond it.

        Raises Missing at once, before the first piece is asked for.
        """

    def size(self, key: str) -> int:
        """Bytes of the object. Raises Missing."""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """The objects whose keys begin with `prefix`, which ends with `/`, in the order of their keys."""

    def remove(self, key: str) -> None:
        """Remove the object of this key, and everything below it. Idempotent."""
