"""The interface of a storage: objects under keys such as `outputs/RUN/0/1/log`, shared by all nodes.

An object is visible as a whole or not at all, and never changes. Keys are words separated by `/`, of at most
1,000 bytes. Every call may raise StorageUnavailable, and may then be repeated. Calls are thread-safe.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


class StorageUnavailable(Exception):
    """The storage does not answer, refuses, or is not mounted. Try again later. The message is a sentence."""


class Missing(Exception):
    """No object has this key. The message is the key."""


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object in a listing."""

    key: str
    size: int  # bytes
    modified: datetime  # with a time zone


class Readable(Protocol):
    """The source of `put`: an open file, or a wrapper that checks the bytes on the way."""

    def read(self, size: int = -1, /) -> bytes: ...


class Storage(Protocol):
    """Keeps exports and outputs."""

    def local(self, key: str) -> Path | None:
        """The path at which every node can read and write files of this key; None if they are objects."""

    def put(self, key: str, source: Readable, *, size: int) -> None:
        """Store the `size` bytes of `source`. If it raises, nothing is stored. Idempotent."""

    def read(self, key: str, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces; none if `start` is at the end or beyond it.

        Raises Missing when it is called, not only at the first piece.
        """

    def size(self, key: str) -> int:
        """The size of an object in bytes. Raises Missing."""

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose keys begin with `prefix`, ordered by key. `prefix` ends with `/`."""

    def remove(self, key: str) -> None:
        """Remove the object with this key and all objects below it. Idempotent."""
