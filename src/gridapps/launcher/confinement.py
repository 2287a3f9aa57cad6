"""What the launcher gives up when it starts: privileges that it does not use, and the network."""

import ctypes
import os

from gridapps.processes import privileges

_CLONE_NEWNET = 0x40000000

CHOWN, DAC_OVERRIDE, FOWNER, KILL, SYS_ADMIN = 0, 1, 3, 5, 21  # linux/capability.h
# The first three hand over outputs: change owners, read closed directories, change modes. KILL ends processes
# without the engine. SYS_ADMIN mounts and uses loop devices.
NEEDED = (CHOWN, DAC_OVERRIDE, FOWNER, KILL, SYS_ADMIN)


def confine(*, network: bool) -> None:
    """Call once, before any thread starts. `network`: keep the network, for an engine at a TCP address.

    Raises OSError.
    """
    os.umask(0o077)
    if os.geteuid() == 0:
        if not network and ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"The launcher could not leave the network: {os.strerror(code)}")
        os.setgroups([])
        privileges.drop_capabilities(but=NEEDED)
    privileges.forgo_new()
