"""Give up privileges of a Linux process for good, and end a process with its parent."""

import ctypes
import os
import signal
import struct
from collections.abc import Collection

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 24, 38, 47  # linux/prctl.h
_CLEAR_ALL = 4
_CAPABILITY_VERSION = 0x20080522  # linux/capability.h
_LAST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(number: signal.Signals) -> None:
    """Receive this signal when the parent ends. The kernel clears the setting when the account changes."""
    _done(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "end with the parent")


def forgo_new() -> None:
    """Keep programs that this process or its children execute from gaining privileges. Raises OSError."""
    _done(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forgo new privileges")


def drop_capabilities(*, but: Collection[int] = ()) -> None:
    """Give up all capabilities but these (numbers of linux/capability.h). Needs root. Raises OSError."""
    bound_capabilities(but=but)
    mask = sum(1 << capability for capability in but)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0))
    data = ctypes.create_string_buffer(struct.pack("6I", low, low, 0, high, high, 0))
    _done(_libc.capset(header, data), "drop capabilities")


def bound_capabilities(*, but: Collection[int] = ()) -> None:
    """Limit programs that this process executes to these capabilities. Without root, do nothing."""
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in but:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those that this kernel lacks
    _libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)


def _done(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"The process could not {what}: {os.strerror(code)}")
