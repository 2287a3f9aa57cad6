"""The disk limit of workspaces without a quota file system: their size is measured every second, and a
container above its limit is stopped."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gridapps.sandbox.protocol import NoSpace

_KEPT_FREE = 512 * 1024**2  # bytes of the node's disk


@dataclass(frozen=True)
class Measured:
    """The size of a directory tree: bytes allocated, and files and directories."""

    bytes: int
    inodes: int


def measure(top: Path) -> Measured:
    """The size of a hostile, changing tree. Follows no link; what vanishes meanwhile is not counted."""
    return Measured(bytes=_du(top, "-B1"), inodes=_du(top, "--inodes"))


def _du(top: Path, unit: str) -> int:
    done = subprocess.run(
        ["du", "-s", "-x", "-P", unit, str(top)], capture_output=True, check=False, timeout=600
    )
    words = done.stdout.split(None, 1)
    return int(words[0]) if words and words[0].isdigit() else 0


def check_free(directory: Path, *, needed: int) -> None:
    """Raise NoSpace unless the disk has `needed` bytes and those that are kept free."""
    needed += _KEPT_FREE
    if _free(directory) < needed:
        raise NoSpace(f"The disk of {directory} has less than {needed} bytes free.")


def over_limit(directory: Path, *, size: int, inodes: int) -> bool:
    """Whether a tree is larger than this, or the node's disk is nearly full."""
    if _free(directory) < _KEPT_FREE:
        return True
    used = measure(directory)
    return used.bytes > size or used.inodes > inodes


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
