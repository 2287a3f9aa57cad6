"""Opening the target of a symbolic link in /grid, if it is a regular file in /grid.

The kernel resolves the link (openat2), so nothing can be exchanged between two steps. It refuses every step
that leads out of the tree, to another file system or through the links of /proc, and more than 40 links in a
row.
"""

import ctypes
import errno
import os
import stat
import struct

_GRID = b"/grid"  # where the program saw the tree
_OPENAT2 = 437  # the same number on every architecture
_HOW = struct.pack("QQQ", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0, 0x01 | 0x02 | 0x08)
# RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS and RESOLVE_BENEATH of linux/openat2.h
_TRIES = 1000  # the kernel gives up a resolution during which anything on the machine was renamed or mounted
_LONGEST = 4095  # bytes of a path that the kernel takes
_NOTHING = {
    errno.ENOENT: "leads to nothing",
    errno.ENOTDIR: "leads to nothing",
    errno.ELOOP: "is a loop, or a chain of more than 40 links",
    errno.ENXIO: "does not lead to a regular file",  # but to a socket
}
_libc = ctypes.CDLL(None, use_errno=True)


class Unresolved(Exception):
    """The link leads to no regular file in the tree. The message says why, without a subject. `lost`: content
    that the program may have meant to leave is in no output."""

    def __init__(self, why: str, *, lost: bool) -> None:
        super().__init__(f"is a symbolic link that {why}.")
        self.lost = lost


def open_target(top: int, path: bytes) -> int:
    """A descriptor of the regular file that the link `path` below the open directory `top` leads to.

    An absolute link may lead to /grid, where the program saw the tree. Raises Unresolved.
    """
    try:
        target = os.readlink(path, dir_fd=top)
    except OSError as error:
        raise Unresolved(f"cannot be read: {error.strerror}", lost=True) from None
    descriptor = _open_beneath(top, _seen_from_top(path, target))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise Unresolved(
            "leads to a directory; the files there are outputs under their own names", lost=False
        )
    raise Unresolved("does not lead to a regular file", lost=False)


def _seen_from_top(path: bytes, target: bytes) -> bytes:
    """What to open below the top: the link, or the target of one that leads to /grid."""
    if target == _GRID or target.startswith(_GRID + b"/"):
        return target.removeprefix(_GRID)
    return path


def _open_beneath(top: int, path: bytes) -> int:
    path = path.lstrip(b"/") or b"."
    if len(path) > _LONGEST:
        raise Unresolved("leads to nothing", lost=False)
    for _ in range(_TRIES):
        descriptor = _openat2(top, path)
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        if code != errno.EAGAIN:
            break
    if code == errno.EXDEV:
        raise Unresolved("leads out of /grid", lost=True)
    why = _NOTHING.get(code, f"cannot be followed: {os.strerror(code)}")
    raise Unresolved(why, lost=code not in _NOTHING)


def _openat2(top: int, path: bytes) -> int:
    """A descriptor, or -1 with an errno."""
    how = ctypes.c_char_p(_HOW)
    return int(
        _libc.syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(top),
            ctypes.c_char_p(path),
            how,
            ctypes.c_size_t(len(_HOW)),
        )
    )
