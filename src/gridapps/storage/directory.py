"""A storage in a directory of this machine, or of a file system that every node mounts.

It relies neither on locks nor on the order in which other machines see changes: every attempt writes to its
own directory, which rows of the database make visible after `settle`.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from gridapps.storage.interface import Missing, Readable, StorageUnavailable, StoredObject

_AT_ONCE = 8  # threads that sync: one commit of a journal serves several
_PIECE = 1024**2


class DirectoryStorage:
    """Files below an existing directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def local(self, key: str) -> Path | None:
        return self._root / key

    def put(self, key: str, source: Readable, *, size: int) -> None:
        place = self._top(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{uuid4().hex}")
        try:
            with new.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
                shutil.copyfileobj(source, file, _PIECE)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
            new.replace(place)
        finally:
            new.unlink(missing_ok=True)
        _sync(place.parent)

    def read(self, key: str, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        try:
            file = self._top(key).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise Missing(key) from None
        return _pieces(file, start, stop)

    def size(self, key: str) -> int:
        place = self._top(key)
        if not place.is_file():
            raise Missing(key)
        return place.stat().st_size

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        top = self._top(prefix.rstrip("/"))
        for path in sorted(path for path in top.rglob("*") if path.is_file()):
            found = path.stat()
            modified = datetime.fromtimestamp(found.st_mtime, UTC)
            yield StoredObject(key=str(path.relative_to(self._root)), size=found.st_size, modified=modified)

    def remove(self, key: str) -> None:
        place = self._top(key)
        if place.is_dir():
            shutil.rmtree(place, onerror=_unless_gone)
        with suppress(FileNotFoundError):
            place.unlink()

    def _top(self, key: str) -> Path:
        """The path of a key. Raises StorageUnavailable unless its first directory exists."""
        check_present(self._root / key.partition("/")[0])
        return self._root / key


def _pieces(file: BinaryIO, start: int, stop: int | None) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while piece := file.read(_PIECE if stop is None else max(min(_PIECE, stop - start), 0)):
            start += len(piece)
            yield piece


def make_directories(top: Path, *names: str) -> Path:
    """Make nested directories below an existing one, and return the innermost.

    They inherit the group of `top`. The group may read them and others may not, whatever the umask is.
    """
    here = top
    for name in names:
        here /= name
        with suppress(FileExistsError):
            here.mkdir(mode=0o700)
            here.chmod(0o750 | (here.stat().st_mode & stat.S_ISGID))
    return here


def check_present(directory: Path) -> None:
    """Raise StorageUnavailable unless the directory exists. It does not while its file system is
    unmounted."""
    if not directory.is_dir():
        raise StorageUnavailable(
            f"{directory} is missing: the file system of the storage is not mounted here."
        )


def settle(top: Path) -> None:
    """Return when `top` and everything below it would survive a loss of power. Raises OSError."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(_sync, _below(top)):
            pass
    _sync(top.parent)


def _below(top: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(top, topdown=False, onerror=_raise):
        yield from (Path(directory, name) for name in names)
        yield Path(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unless_gone(_: object, __: str, found: tuple[type[BaseException], BaseException, object]) -> None:
    """Ignore files that another process has removed meanwhile."""
    if not isinstance(found[1], FileNotFoundError):
        raise found[1]


def _raise(error: OSError) -> None:
    raise error
