"""End the processes that descend from this one, also those that left its group and session.

Call `adopt` first: then the kernel makes this process the parent of descendants whose own parent has ended. A
process of the same account could still kill this one, and so escape.
"""

import ctypes
import os
import signal
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def adopt() -> None:
    """Become the parent of descendants whose parent ends. Raises OSError."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def end_all() -> None:
    """Kill and reap the children, then the children of these, until none is left."""
    while children := _children():
        for child in children:
            os.kill(child, signal.SIGKILL)  # not reaped yet, so the number is still that child's
        for child in children:
            os.waitpid(child, 0)


def _children() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text(errors="replace")
        except OSError:  # it has ended
            continue
        parent = text.rpartition(")")[2].split()[1]  # the name in parentheses may contain anything
        if int(parent) == os.getpid():
            found.append(int(path.parent.name))
    return found
