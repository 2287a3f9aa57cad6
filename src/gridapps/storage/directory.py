"""A storage that is a directory: of this machine, or of a file system that every node mounts.

Nothing here relies on locks or on the order in which other machines see changes: every attempt writes into a
directory of its own, and rows of the database make it visible after `settle`.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gridapps.storage.protocol import StorageUnavailable

_AT_ONCE = 8  # a journal commits for all who wait


def check_present(directory: Path) -> None:
    """Raise StorageUnavailable unless the directory is there. A mount point without its mount lacks it."""
    if not directory.is_dir():
        raise StorageUnavailable(
            f"{directory} is missing: the file system of the storage is not mounted here."
        )


def settle(top: Path) -> None:
    """Return when everything below `top`, and its own name, would survive a loss of power. Raises OSError."""
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


def _raise(error: OSError) -> None:
    raise error
