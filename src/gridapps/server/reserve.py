"""A file that takes some disk, for the case that other programs leave none.

It is removed then, so that the database can be written and opened, and `tidy` can free more.
"""

import os
from contextlib import suppress
from pathlib import Path

from gridapps.storage import free_disk

NAME = "reserve"
SIZE = 32 * 1024**2  # bytes; the write-ahead log of SQLite takes 4 MiB


def settle(data: Path, *, floor: int) -> None:
    """Remove the file when less than its size is free; make it when there is enough. Raises OSError."""
    found = free_disk.measure(data, floor=floor)
    file = data / NAME
    if found.free < SIZE:
        file.unlink(missing_ok=True)
    elif found.left > SIZE and not file.exists():
        _make(file)


def _make(file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):  # the file system cannot allocate in advance
            os.posix_fallocate(descriptor, 0, SIZE)
    finally:
        os.close(descriptor)
