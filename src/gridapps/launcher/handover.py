"""Giving the outputs of a program to the worker's account, so that it can read closed files and directories.

The tree is hostile: it is walked by descriptors, no link is followed, and only directories and regular files
change their owner. Entries below the depth that collection reads stay as they are.
"""

import os
import stat
from pathlib import Path

MAX_DEPTH = 129  # levels of directories; collection opens fewer
MAX_ENTRIES = 1_200_000  # a quota file system has fewer
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class _Directory:
    """A directory on the path of the walk."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._scan = os.scandir(descriptor)

    def next(self) -> str | None:
        entry = next(self._scan, None)
        return None if entry is None else entry.name

    def close(self) -> None:
        self._scan.close()
        os.close(self.descriptor)


def hand_over(top: int, *, owner: int) -> None:
    """Give the open directory `top` and everything below it to an account. Idempotent."""
    found = os.fstat(top)
    device = found.st_dev
    if found.st_uid != 0:
        _give(top, found, owner=owner, needed=0o500)
    left = MAX_ENTRIES
    stack = [_Directory(os.open(".", _OPEN, dir_fd=top))]
    try:
        while stack and left:
            name = stack[-1].next()
            if name is None:
                stack.pop().close()
                continue
            left -= 1
            deeper = len(stack) < MAX_DEPTH
            below = _take(stack[-1].descriptor, name, device=device, owner=owner, deeper=deeper)
            if below is not None:
                stack.append(_Directory(below))
    finally:
        for directory in stack:
            directory.close()


def _take(directory: int, name: str, *, device: int, owner: int, deeper: bool) -> int | None:
    """Hand over one entry. Returns a descriptor if it is a directory to walk next."""
    try:
        entry = os.open(name, _LOOK, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(entry)
        is_directory = stat.S_ISDIR(found.st_mode)
        if found.st_dev != device or found.st_uid == 0 or not (is_directory or stat.S_ISREG(found.st_mode)):
            return None
        _give(entry, found, owner=owner, needed=0o500 if is_directory else 0o400)
        return os.open(".", _OPEN, dir_fd=entry) if is_directory and deeper else None
    finally:
        os.close(entry)


def _give(entry: int, found: os.stat_result, *, owner: int, needed: int) -> None:
    """Works through the link in /proc, which leads to the open inode even if the name now means another."""
    here = f"/proc/self/fd/{entry}"
    if found.st_uid != owner:
        os.chown(here, owner, -1)
    mode = stat.S_IMODE(found.st_mode)
    wanted = mode & 0o777 | needed
    if mode != wanted or found.st_uid != owner:
        Path(here).chmod(wanted)
