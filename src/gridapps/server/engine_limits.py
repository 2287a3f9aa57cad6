"""The engine's own memory limit and the location of its storage: whether it can exhaust the machine."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from gridapps.sandbox.engine.calls import Engine
from gridapps.sandbox.protocol import SandboxError

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_ENGINES = ("dockerd",)
_NO_LIMIT = 2**60  # cgroup v1 reports no limit as a number of about 2**63


def storage(address: str) -> Path | None:
    """The directory of this machine where the engine keeps images, or None."""
    try:
        found = Path(Engine(address).info().docker_root_dir)
    except SandboxError:
        return None
    return found if found.is_absolute() and found.is_dir() else None


def process(address: str) -> int | None:
    """The process id of the engine, if it is visible from here."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(address.removeprefix("unix://"))
            except OSError:
                return None
            peer = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        if _name(peer) in _ENGINES:
            return int(peer)
        # The service manager may own the socket.
        found = [int(path.name) for path in _PROC.glob("[0-9]*") if _name(int(path.name)) in _ENGINES]
        return found[0] if len(found) == 1 else None
    return None


def memory_limit(pid: int) -> int | None:
    """The smallest limit of the control groups that a process is in, or None."""
    return min(_limits(pid), default=None)


def _limits(pid: int) -> Iterator[int]:
    for line in (_PROC / str(pid) / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for cgroup in (group, *group.parents):
            if cgroup == top.parent:
                break
            file = cgroup / name
            text = file.read_text().strip() if file.is_file() else "max"
            if text != "max" and int(text) < _NO_LIMIT:
                yield int(text)


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def shares_file_system(one: Path, other: Path) -> bool:
    """Whether two directories are in the same file system, so that one can fill up the other's."""
    there = next(path for path in (other, *other.parents) if path.exists())
    return one.stat().st_dev == there.stat().st_dev
