"""Copying files and hashing them in one pass. A second thread hashes a chunk of a large file while the next
one is copied."""

import errno
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

_CHUNK = 1024 * 1024
_SMALL = 64 * 1024  # bytes of a file that is read at once, and not looked at for holes
_ZEROS = memoryview(bytes(_CHUNK))


class Truncated(Exception):
    """The source became shorter while it was copied."""


class HashingCopier:
    """Copies files, one at a time. Close it after use, because it has a thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sha256")

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def copy(self, source: int, target: int, size: int) -> str:
        """Copy the first `size` bytes between open files, holes as holes; return their SHA-256.

        Raises Truncated, OSError.
        """
        if size <= _SMALL:
            return _copy_small(source, target, size)
        digest = _Digest(self._thread)
        offset = 0
        for start, end in _data_ranges(source, size):
            while offset < start:
                step = min(_CHUNK, start - offset)
                digest.update(_ZEROS[:step])
                offset += step
            while offset < end:
                chunk = os.pread(source, min(_CHUNK, end - offset), offset)
                if not chunk:
                    raise Truncated
                digest.update(chunk)
                _write_at(target, chunk, offset)
                offset += len(chunk)
        os.ftruncate(target, size)
        return digest.hexdigest()


def _copy_small(source: int, target: int, size: int) -> str:
    content = os.pread(source, size, 0) if size else b""
    if len(content) < size:
        raise Truncated
    _write_at(target, content, 0)
    return hashlib.sha256(content).hexdigest()


class _Digest:
    """A SHA-256 that a thread computes. At most one chunk waits for it."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._sha256 = hashlib.sha256()
        self._pending: Future[None] | None = None

    def update(self, chunk: bytes | memoryview) -> None:
        self._wait()
        self._pending = self._thread.submit(self._sha256.update, chunk)

    def hexdigest(self) -> str:
        self._wait()
        return self._sha256.hexdigest()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()


def _data_ranges(source: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data. The last range is empty and at the end, so that a hole before it is seen."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # only a hole is left
                raise
            break
        end = min(size, os.lseek(source, start, os.SEEK_HOLE))
        if start >= size:
            break
        yield start, end
        offset = end
    yield size, size


def _write_at(target: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(target, view, offset)
        view, offset = view[written:], offset + written
