"""A node's cache: files by the SHA-256 of their content, fetched once, kept as long as there is room.

    files/SHA256             complete and verified; the time of its last use is its time of access
    partial/SHA256           being fetched: locked by its fetcher, of its full size from the start
    used/NODE/NAME           a hard link for each user of a file

So all that matters is in the file system, where a crash leaves it: a file with a second link is in use, a
partial file that nobody locks is waste, and what the cache takes is what its files take. The cache lies on a
local disk. Several threads and processes may use it at once.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LOOK = 0.2  # seconds between two looks whether another has fetched a file


class CacheFull(Exception):
    """There is no room: everything in the cache is in use. Ask again later. The message is a sentence."""


class Altered(Exception):
    """What was fetched is not what it should be. The message says how, without a subject."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file by its content."""

    sha256: str
    size: int  # bytes


class Cache:
    """The cache in a directory, as one node uses it."""

    def __init__(self, directory: Path, *, limit: int, node: str) -> None:
        """`limit`: bytes. Only a file that is larger than it alone exceeds it, with nothing beside it."""
        self._directory = directory
        self._files = directory / "files"
        self._partial = directory / "partial"
        self._used = directory / "used" / node
        self._limit = limit
        for each in (self._files, self._partial, self._used):
            each.mkdir(mode=0o711, parents=True, exist_ok=True)

    def use(
        self, wanted: Wanted, *, by: str, read: Callable[[], Iterable[bytes]], check: Callable[[], None]
    ) -> Path:
        """The file, kept until `release(by)`. It is fetched with `read` unless it is there or on its way.

        `check` is called every now and then, and ends the wait by raising. Raises Altered, CacheFull, OSError
        of a full disk, and what `read` raises; then nothing is left.
        """
        link = self._used / by
        while True:
            with self._locked():
                if self._link(wanted, link):
                    return link
                partial = self._begin(wanted)
            if partial is None:
                check()
                time.sleep(_LOOK)
                continue
            try:
                _fetch(wanted, partial, read, check)
                with self._locked():
                    (self._partial / wanted.sha256).rename(self._files / wanted.sha256)
                    self._link(wanted, link)
            except BaseException:
                (self._partial / wanted.sha256).unlink(missing_ok=True)
                raise
            finally:
                os.close(partial)
            return link

    def release(self, by: str) -> None:
        """Its file may go when room is needed. Idempotent."""
        (self._used / by).unlink(missing_ok=True)

    def release_others(self, keep: set[str]) -> None:
        """Release what users that are gone hold: of this node, all but `keep`. Remove abandoned fetches."""
        for link in self._used.iterdir():
            if link.name not in keep:
                self.release(link.name)
        with self._locked():
            for path in self._partial.iterdir():
                if (descriptor := _lock(path)) is not None:
                    path.unlink()
                    os.close(descriptor)

    def _link(self, wanted: Wanted, link: Path) -> bool:
        """Use the file if it is there. A copy of another size has been harmed, and is dropped."""
        file = self._files / wanted.sha256
        try:
            if file.stat().st_size != wanted.size:
                file.unlink()
                return False
            link.unlink(missing_ok=True)
            link.hardlink_to(file)
        except FileNotFoundError:
            return False
        os.utime(file, (time.time(), file.stat().st_mtime))
        return True

    def _begin(self, wanted: Wanted) -> int | None:
        """A locked file to fetch into, of full size; None when another does. Raises CacheFull, OSError."""
        path = self._partial / wanted.sha256
        if path.exists():
            if (stale := _lock(path)) is None:
                return None
            path.unlink()
            os.close(stale)
        self._make_room(wanted.size)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if wanted.size:
                os.posix_fallocate(descriptor, 0, wanted.size)
        except BaseException:
            path.unlink()
            os.close(descriptor)
            raise
        return descriptor

    def _make_room(self, size: int) -> None:
        """Remove the least recently used files, none of them in use, until `size` bytes fit."""
        files = [(path, path.stat()) for path in self._files.iterdir()]
        taken = sum(found.st_size for _, found in files)
        taken += sum(path.stat().st_size for path in self._partial.iterdir())
        idle = sorted((found.st_atime, path, found) for path, found in files if found.st_nlink == 1)
        room = taken - sum(found.st_size for _, _, found in idle)
        if room and room + size > self._limit:
            raise CacheFull(
                f"The cache of this node has room for {self._limit} bytes, and {room} of them are in use."
            )
        for _, path, found in idle:
            if taken + size <= self._limit:
                break
            path.unlink()
            taken -= found.st_size

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time decides what is kept. The lock is held for a look and a few names."""
        with (self._directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _fetch(
    wanted: Wanted, descriptor: int, read: Callable[[], Iterable[bytes]], check: Callable[[], None]
) -> None:
    digest = hashlib.sha256()
    size = 0
    for piece in read():
        check()
        size += len(piece)
        if size > wanted.size:
            break
        digest.update(piece)
        _write(descriptor, piece)
    if size != wanted.size:
        more = "more" if size > wanted.size else f"{size}"
        raise Altered(f"has {more} bytes instead of {wanted.size}")
    if digest.hexdigest() != wanted.sha256:
        raise Altered("has another content")
    os.fchmod(descriptor, 0o444)
    os.fsync(descriptor)


def _write(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a file; None when somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
