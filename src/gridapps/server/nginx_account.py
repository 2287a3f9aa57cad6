"""The account of nginx's workers.

They read what strangers send, so they do not run as root. They get at the application's socket, outputs and
static files by their group.
"""

import grp
import logging
import os
import pwd
from pathlib import Path

log = logging.getLogger(__name__)

WORKER_ACCOUNTS = ("www-data", "nginx", "nobody")


def open_to(account: pwd.struct_passwd, directory: Path) -> None:
    """Make a directory that the account reads by its group."""
    directory.mkdir(mode=0o750, exist_ok=True)
    try:
        os.chown(directory, 0, account.pw_gid)
        directory.chmod(0o2750)  # set-group-ID: what is made below belongs to the same group
    except PermissionError:  # a file server may refuse root's word
        log.warning("%s cannot be given to the group of %s, who must read it.", directory, account.pw_name)


def find() -> pwd.struct_passwd:
    """The account that this system has for them. Raises LookupError."""
    for name in WORKER_ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError(f"There is no account for nginx's workers: create one of {', '.join(WORKER_ACCOUNTS)}.")


def of_workers(account: pwd.struct_passwd, *tops: Path) -> str:
    """User and group of the workers: root where a directory above the data is closed to the account."""
    for directory in dict.fromkeys(place for top in tops for place in (top, *top.parents)):
        status = directory.stat()
        bit = 0o010 if status.st_gid == account.pw_gid else 0o001
        if not status.st_mode & bit:
            log.warning(
                "nginx's workers run as root: %s is closed to %s. Open it (chmod o+x), or move the files.",
                directory, account.pw_name,
            )  # fmt: skip
            return "root root"
    return f"{account.pw_name} {grp.getgrgid(account.pw_gid).gr_name}"
