"""The directories and files of the data directory, with owner, group and mode; docs/security.md has a table.

Other accounts of the machine have no access, whatever the umask. Each start corrects what an older version,
another umask or other accounts left; whole trees are walked only when their owner changes.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gridapps.server.accounts import EVERYBODY, Accounts

DATABASE = Path("database/gridapps.sqlite3")
DATABASE_OF_OLD = Path("gridapps.sqlite3")  # of versions before 0.2, readable by others
TIDY_LOCK = Path("run/housekeeper/tidy.lock")
OPEN_BLOBS = Path("run/housekeeper/open-blobs")  # a request: the supervisor removes it when done


@dataclass(frozen=True)
class OwnedDirectory:
    """A directory. Owner and group are named as in `accounts`; empty means root.

    `below`: what in it changes its owner along with it. Export files may be hard links to files of users,
    whose owner and mode stay; cached ones keep their mode, because Apps read them.
    """

    owner: str
    group: str
    mode: int
    below: Literal["", "everything", "owners", "directories"] = ""


# The set-group-ID bit passes the group on to what is made inside.
OF_A_NODE: Mapping[str, OwnedDirectory] = {
    ".": OwnedDirectory("", EVERYBODY, 0o710),
    "run": OwnedDirectory("", EVERYBODY, 0o750),
    "run/bells": OwnedDirectory("", "database", 0o2770),
    "run/worker": OwnedDirectory("worker", "worker", 0o700),
    "log": OwnedDirectory("", "", 0o700),
    "scratch": OwnedDirectory("", "", 0o700),
    "inputs": OwnedDirectory("", "", 0o700),
    "images": OwnedDirectory("worker", "worker", 0o700, "everything"),
    "cache": OwnedDirectory("worker", "worker", 0o711, "owners"),
    "attempts": OwnedDirectory("worker", "worker", 0o700, "everything"),
}
OF_A_MEMBER: Mapping[str, OwnedDirectory] = {**OF_A_NODE, "node": OwnedDirectory("", "worker", 0o750)}
OF_THE_INSTANCE: Mapping[str, OwnedDirectory] = {
    **OF_A_NODE,
    "run/application": OwnedDirectory("application", "nginx", 0o710),
    "run/reading": OwnedDirectory("application", "application", 0o700),
    "run/nginx": OwnedDirectory("nginx", "nginx", 0o700, "everything"),
    "run/housekeeper": OwnedDirectory("housekeeper", "housekeeper", 0o700),
    "authority": OwnedDirectory("", EVERYBODY, 0o750),
    "incoming": OwnedDirectory("application", "importer", 0o2770, "owners"),
    "database": OwnedDirectory("", "database", 0o2770),
    "registry": OwnedDirectory("registry", "registry", 0o2770, "everything"),
    "trusted": OwnedDirectory("trusted", "trusted", 0o2750, "everything"),
    "static": OwnedDirectory("", "nginx", 0o2750),
    "run/scanner": OwnedDirectory("scanner", "promoter", 0o710),
    "scanner": OwnedDirectory("scanner", "scanner", 0o700, "everything"),
    "scans": OwnedDirectory("promoter", "scanner", 0o2750, "everything"),
}
OF_THE_STORAGE: Mapping[str, OwnedDirectory] = {
    "exports": OwnedDirectory("importer", "exports", 0o2750, "directories"),
    "outputs": OwnedDirectory("worker", "outputs", 0o2750, "everything"),
}
# Owner, group and mode of files, for those that exist.
FILES: Mapping[str, tuple[str, str, int]] = {
    "instance-id": ("", EVERYBODY, 0o640),
    "secret-key": ("", "secret", 0o640),
    "authority/lock": ("", "", 0o600),
    "authority/ca.crt": ("", EVERYBODY, 0o640),
    "authority/ca.key": ("", "application", 0o640),
    "authority/server.crt": ("", EVERYBODY, 0o640),
    "authority/server.key": ("", "nginx", 0o640),
    "authority/token.crt": ("", EVERYBODY, 0o640),
    "authority/token.key": ("", "tokens", 0o640),
    str(DATABASE): ("", "database", 0o660),
    f"{DATABASE}-wal": ("", "database", 0o660),
    f"{DATABASE}-shm": ("", "database", 0o660),
    str(TIDY_LOCK): ("housekeeper", "housekeeper", 0o600),
    **{
        f"node/{name}": ("", "worker", 0o640) for name in ("node.json", "ca.crt", "client.cert", "client.key")
    },
    "run/instance.lock": ("", "", 0o600),
    "run/nginx.conf": ("", "nginx", 0o640),
    "run/registry.json": ("registry", "", 0o400),
    "run/trusted.json": ("trusted", "", 0o400),
}


def sockets(data: Path, processes: int) -> list[Path]:
    """The sockets of the application processes."""
    return [data / "run" / "application" / f"{number}.socket" for number in range(1, processes + 1)]


def make(top: Path, directories: Mapping[str, OwnedDirectory], accounts: Accounts) -> None:
    """Make missing directories, and set owner and mode of all. Raises OSError."""
    for name, directory in directories.items():
        _make(top, top / name, directory, accounts)


def settle_files(data: Path, accounts: Accounts, names: Sequence[str] = tuple(FILES)) -> None:
    """Set owner and mode of the files that exist. Raises OSError."""
    for name in names:
        owner, group, mode = FILES[name]
        if (data / name).is_file():
            with _opened(data / name, os.O_RDONLY) as descriptor:
                # An account that may write the directory could have linked a file of others here.
                if os.fstat(descriptor).st_nlink == 1:
                    _give(descriptor, accounts, owner, group, mode)


def make_database(data: Path) -> None:
    """Make an empty database file if there is none. SQLite copies its group and mode to the files beside it.

    A database of an older version is moved here while nothing uses it. Its write-ahead log is merged first,
    so that it is one file and the move is atomic.
    """
    old, new = data / DATABASE_OF_OLD, data / DATABASE
    if old.is_file() and not old.is_symlink() and not new.exists():
        with closing(sqlite3.connect(old, timeout=30)) as database:
            database.execute("PRAGMA journal_mode=DELETE")
        old.rename(new)
    new.touch(mode=0o600)


def open_blobs(storage: Path, accounts: Accounts) -> None:
    """Make the directories of blobs writable for the group of a registry's storage.

    CNCF Distribution creates only these without group access, whatever the umask.
    """
    uid = accounts.uid("registry")
    top = storage / "docker/registry/v2"
    if not top.is_dir():
        return
    for path, names, _, directory in os.fwalk(top, follow_symlinks=False):
        if path == str(top):
            names[:] = [name for name in names if name == "blobs"]
        for name in names:
            with (
                suppress(OSError),  # removed meanwhile
                _opened(Path(name), os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory) as descriptor,
            ):
                found = os.fstat(descriptor)
                if found.st_uid == uid and not found.st_mode & stat.S_IWGRP:
                    os.fchmod(descriptor, stat.S_IMODE(found.st_mode) | 0o2070)


def make_parents(top: Path) -> None:
    """Make missing parents of the data directory. Others may traverse them, but not the directory itself."""
    for directory in reversed(top.parents):
        if not directory.exists():
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)


def _make(top: Path, path: Path, directory: OwnedDirectory, accounts: Accounts) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    # The operator may have put a symbolic link directly into the data directory, which root owns.
    resolved = path.resolve() if top in (path, path.parent) else path
    with _opened(resolved, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        found = os.fstat(descriptor)
        owners = (accounts.uid(directory.owner), accounts.gid(directory.group))
        if directory.below and (found.st_uid, found.st_gid) != owners:
            _give_below(descriptor, directory, accounts)
        # Last, so that an interrupted start repeats the walk.
        _give(descriptor, accounts, directory.owner, directory.group, directory.mode)


def _give_below(top: int, directory: OwnedDirectory, accounts: Accounts) -> None:
    """Change the owner of everything in a directory, without following links."""
    for _, names, files, opened in os.fwalk(".", dir_fd=top, follow_symlinks=False):
        for name in (*names, *(() if directory.below == "directories" else files)):
            found = os.stat(name, dir_fd=opened, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                continue
            mode = stat.S_IMODE(found.st_mode)
            if directory.below != "owners":
                mode = directory.mode & (0o2770 if stat.S_ISDIR(found.st_mode) else 0o660)
            with _opened(Path(name), os.O_RDONLY, dir_fd=opened) as descriptor:
                _give(descriptor, accounts, directory.owner, directory.group, mode)
        if directory.below == "directories":
            return


def _give(descriptor: int, accounts: Accounts, owner: str, group: str, mode: int) -> None:
    """Set owner, group and mode. Without accounts, remove the group's access."""
    if not accounts.found:
        mode &= ~0o2070
    uid, gid = accounts.uid(owner), accounts.gid(group)
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(descriptor, uid, gid)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
        os.fchmod(descriptor, mode)


@contextmanager
def _opened(path: Path, flags: int, *, dir_fd: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
