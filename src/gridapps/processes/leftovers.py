"""Find processes that outlived their parent: every process of a group holds the group's lock file open."""

import contextlib
import fcntl
import os
from pathlib import Path

from gridapps.processes.descriptors import open_files


def is_free(held: Path) -> bool:
    """Whether no process has the lock file open."""
    with held.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def holders(held: Path) -> list[int]:
    """The processes that have this very file open, except those that this account may not inspect."""
    wanted = held.stat()
    found = set()
    for link in open_files():
        with contextlib.suppress(OSError):
            if os.path.samestat(link.stat(), wanted) and int(link.parts[2]) != os.getpid():
                found.add(int(link.parts[2]))
    return sorted(found)
