"""What the launcher gives up at its start: privileges that it has no use for, and the network."""

import ctypes
import os
import struct

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _CLEAR_ALL = 24, 38, 47, 4  # linux/prctl.h
_CAPABILITY_VERSION = 0x20080522  # linux/capability.h
_CLONE_NEWNET = 0x40000000
_LAST_CAPABILITY = 63

CHOWN, DAC_OVERRIDE, FOWNER, KILL, SYS_ADMIN = 0, 1, 3, 5, 21
# To hand outputs over, to reach what programs closed, to change its mode; to kill without the engine;
# to mount and to use loop devices.
NEEDED = (CHOWN, DAC_OVERRIDE, FOWNER, KILL, SYS_ADMIN)

_libc = ctypes.CDLL(None, use_errno=True)


def confine(*, network: bool) -> None:
    """Call it once, before any thread. `network`: keep it, for an engine at a TCP address. Raises OSError."""
    os.umask(0o077)
    if os.geteuid() == 0:
        if not network:
            _done(_libc.unshare(_CLONE_NEWNET), "leave the network")
        os.setgroups([])
        for capability in range(_LAST_CAPABILITY + 1):
            if capability not in NEEDED:
                _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those that this kernel lacks
        _libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
        _keep(NEEDED)
    _done(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forgo new privileges")


def _keep(capabilities: tuple[int, ...]) -> None:
    """Effective, permitted and inheritable sets: these, and no others."""
    mask = sum(1 << capability for capability in capabilities)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0))
    data = ctypes.create_string_buffer(struct.pack("6I", low, low, 0, high, high, 0))
    _done(_libc.capset(header, data), "drop capabilities")


def _done(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"The launcher could not {what}: {os.strerror(code)}")
