"""Checking the files of an image that the engine itself handles when it starts a container.

The engine reads `/etc/passwd` and `/etc/group` into memory, even for a numeric user: a large file or a device
takes all memory of the engine, and a FIFO blocks the start forever. It also creates mount points. So the
status of these paths is checked first; nothing is opened. A push checks images as well; this check covers
images that were pushed by an older version, or reached the node otherwise.
"""

from collections.abc import Callable

from gridapps.sandbox.engine.responses import PathStat
from gridapps.sandbox.protocol import ImageUnavailable

LARGEST = 1024**2  # bytes of an account file
_READ = ("/etc/passwd", "/etc/group")
_FILES = (
    *_READ,
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/.gridapps/init",
    "/.gridapps/arguments",
)
_DIRECTORIES = (
    *("/etc", "/dev", "/proc", "/sys", "/tmp", "/grid", "/input"),  # noqa: S108 - paths in an image
    *("/grid-scratch", "/.gridapps", "/.gridapps/run", "/.gridapps/report"),
)
_MOST_LINKS = 8
# Go's os.FileMode, as the engine reports it.
_DIRECTORY, _LINK, _DEVICE, _FIFO, _SOCKET, _CHARACTER, _IRREGULAR = (
    *(1 << 31, 1 << 27, 1 << 26, 1 << 25),
    *(1 << 24, 1 << 21, 1 << 19),
)
_KINDS = {
    _DIRECTORY: "a directory", _LINK: "a link", _DEVICE: "a device", _FIFO: "a named pipe",
    _SOCKET: "a socket", _CHARACTER: "a device", _IRREGULAR: "no regular file",
}  # fmt: skip

Stat = Callable[[str], PathStat | None]


def check(stat: Stat) -> None:
    """Raise ImageUnavailable for an image that must not be started. `stat` describes a path of it."""
    for path in _DIRECTORIES:
        _, found = followed(stat, path)
        if found is not None and _kind(found) != "a directory":
            raise ImageUnavailable(f"The image has {_kind(found)} at {path}, where a directory belongs.")
    for path in _FILES:
        _, found = followed(stat, path)
        if found is None:
            continue
        if _kind(found) != "a file":
            raise ImageUnavailable(f"The image has {_kind(found)} at {path}, where a regular file belongs.")
        if path in _READ and found.size > LARGEST:
            raise ImageUnavailable(f"The image's {path} has {found.size} bytes; {LARGEST} are allowed.")


def followed(stat: Stat, path: str) -> tuple[str, PathStat | None]:
    """Where a path leads, and what is there; None if nothing. Raises ImageUnavailable for a long chain."""
    target = path
    for _ in range(_MOST_LINKS):
        found = stat(target)
        if found is None or not found.mode & _LINK:
            return target, found
        target = found.link_target
    raise ImageUnavailable(f"The image's {path} is a chain of more than {_MOST_LINKS} symbolic links.")


def _kind(found: PathStat) -> str:
    return next((kind for bit, kind in _KINDS.items() if found.mode & bit), "a file")
