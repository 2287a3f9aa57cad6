"""A node's cache of files by the SHA-256 of their content. Each is fetched once and kept while there is
space.

    files/SHA256             complete and verified; its access time is the time of its last use
    partial/SHA256           being fetched: locked by the fetching process, with its final size from the start
    used/NODE/NAME           a hard link for each user of a file

All state is in the file system, so it survives a crash: a file with a second link is in use, an unlocked
partial file is abandoned, and the files alone determine the size of the cache. It must be on a local disk.
Several threads and processes may use it at once.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LOOK = 0.2  # seconds between two checks whether another thread has fetched a file


class CacheFull(Exception):
    """There is no space, because all files in the cache are in use. Try again later. The message is a
    sentence."""


class Altered(Exception):
    """The fetched file has another size or content. The message says which, without a subject."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file, identified by its content."""

    sha256: str
    size: int  # bytes


class Cache:
    """The cache in a directory, as one node uses it."""

    def __init__(self, directory: Path, *, limit: int, node: str) -> None:
        """`limit`: bytes. A single file may exceed it if the cache holds no other file."""
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
        """The file, kept until `release(by)`. It is fetched with `read`, unless it is there or being fetched.

        `check` is called repeatedly, and ends the wait by raising. Raises Altered, CacheFull, OSError if the
        disk is full, and what `read` raises; then nothing is kept.
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
        """Let the file of this user be removed when space is needed. Idempotent."""
        (self._used / by).unlink(missing_ok=True)

    def release_others(self, keep: set[str]) -> None:
        """Release the files of all users of this node except `keep`, and remove abandoned partial files."""
        for link in self._used.iterdir():
            if link.name not in keep:
                self.release(link.name)
        with self._locked():
            for path in self._partial.iterdir():
                if (descriptor := _lock(path)) is not None:
                    path.unlink()
                    os.close(descriptor)

    def _link(self, wanted: Wanted, link: Path) -> bool:
        """Use the file if it is there. A file of another size is damaged and is removed."""
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
        """A new locked file of the final size; None if another thread fetches. Raises CacheFull, OSError."""
        path = self._partial / wanted.sha256
        if path.exists():
            if (stale := _lock(path)) is None:
                return None
            path.unlink()
            os.close(stale)
        self._free_space(wanted.size)
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

    def _free_space(self, size: int) -> None:
        """Remove the least recently used files that are not in use, until `size` bytes fit."""
        files = [(path, path.stat()) for path in self._files.iterdir()]
        taken = sum(found.st_size for _, found in files)
        taken += sum(path.stat().st_size for path in self._partial.iterdir())
        idle = sorted((found.st_atime, path, found) for path, found in files if found.st_nlink == 1)
        used = taken - sum(found.st_size for _, _, found in idle)
        if used and used + size > self._limit:
            raise CacheFull(
                f"The cache of this node holds {self._limit} bytes, and {used} of them are in use."
            )
        for _, path, found in idle:
            if taken + size <= self._limit:
                break
            path.unlink()
            taken -= found.st_size

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Decisions about files are made one at a time. The lock is never held during a transfer."""
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
    """A descriptor that holds the lock of a file; None if it is locked already."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
