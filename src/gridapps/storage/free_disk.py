"""Free disk, and the floor below which the instance accepts nothing that takes more.

A full disk stops the database, and with it everything else. So pushes, imports and new tasks are refused
while there is still space for what goes on and for what frees space.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gridapps.sandbox.resources import shown
from gridapps.storage.interface import StorageUnavailable


class DiskNearlyFull(StorageUnavailable):
    """The request would take disk that has to stay free. The message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class FreeDisk:
    """A file system at one moment. `free` and `floor` are bytes; a floor of 0 means that there is none."""

    free: int
    floor: int

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return max(self.free - self.floor, 0)

    @property
    def is_short(self) -> bool:
        """Whether there is less than the floor."""
        return self.free < self.floor

    def __str__(self) -> str:
        return f"{shown('disk', self.free)} are free, and {shown('disk', self.floor)} have to stay free"


def measure(*directories: Path, floor: int) -> FreeDisk:
    """The file system of these directories with the least free space.

    Of a directory that is missing, its nearest parent counts. Raises OSError.
    """
    return FreeDisk(free=min(map(_free, directories)), floor=floor)


def require(*directories: Path, floor: int, more: int = 0) -> None:
    """Raise DiskNearlyFull unless `more` bytes can be taken from each directory. Raises OSError."""
    if not floor:
        return
    found = measure(*directories, floor=floor)
    if found.is_short or more > found.left:
        raise nearly_full(found)


def nearly_full(found: FreeDisk) -> DiskNearlyFull:
    """The error for a request that would take too much."""
    return DiskNearlyFull(
        f"The instance's disk is nearly full: {found}. Try again later, or ask an administrator to free some."
    )


def _free(directory: Path) -> int:
    there = next(path for path in (directory, *directory.parents) if path.exists())
    found = os.statvfs(there)
    return found.f_bavail * found.f_frsize
