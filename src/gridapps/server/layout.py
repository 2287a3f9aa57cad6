"""What lies in the data directory, and who gets at it: no other account, whatever the umask."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

OF_A_NODE = ("run", "log", "scratch", "images")
DIRECTORIES = (*OF_A_NODE, "registry", "trusted", "static", "authority", "database")
DATABASE = "database/gridapps.sqlite3"
DATABASE_OF_OLD = "gridapps.sqlite3"  # where versions before 0.2 had it, readable by others


def make(data: Path, names: Sequence[str] = DIRECTORIES) -> None:
    """Make what is missing, and close what an older version or another umask left open. Raises OSError."""
    data.mkdir(mode=0o711, parents=True, exist_ok=True)
    for name in names:
        place = data / name
        place.mkdir(mode=0o750, exist_ok=True)
        close(place)


def move_database(data: Path) -> None:
    """Take the SQLite database of an older version to where it lies now. Only while nothing uses it.

    Its log is written into it first, so that it is a single file, and the move one step.
    """
    old, new = data / DATABASE_OF_OLD, data / DATABASE
    if not old.is_file() or old.is_symlink() or new.exists():
        return
    with closing(sqlite3.connect(old, timeout=30)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
    old.chmod(0o600)
    old.rename(new)


def close(place: Path) -> None:
    """Take every right of others from a directory. A link is left alone: it leads to somewhere else."""
    if place.is_symlink():
        return
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode & 0o7777
        if mode & 0o007:
            os.fchmod(descriptor, mode & ~0o007)
    finally:
        os.close(descriptor)
