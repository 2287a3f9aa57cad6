"""The control group above all containers of an instance. It reserves memory for the node itself.

It is written directly for engines with the cgroupfs driver. With the systemd driver the containers go into a
slice named after the instance, and systemd keeps its limits.
"""

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gridapps.sandbox.engine.responses import Info
from gridapps.sandbox.protocol import SandboxError

_ROOT = Path("/sys/fs/cgroup")
_PROCESSES = 32768
_GIB = 1024**3
_SYSTEMD = 60.0  # seconds for an answer of systemd


def parent_name(info: Info, *, instance: str) -> str:
    """The value of CgroupParent for this engine."""
    if info.cgroup_driver == "systemd":
        return f"gridapps_{instance.replace('-', '_')}.slice"
    return f"/gridapps-{instance}"


def prepare(info: Info, *, instance: str) -> str:
    """Create the group and set its limits; returns its name. Idempotent."""
    name = parent_name(info, instance=instance)
    memory = memory_for_containers()
    if info.cgroup_driver == "systemd":
        _limit_slice(name, {"MemoryMax": memory, "TasksMax": _PROCESSES})
        return name
    try:
        if info.cgroup_version == "2":
            group = _ROOT / name[1:]
            group.mkdir(exist_ok=True)
            (group / "memory.max").write_text(str(memory))
            (group / "pids.max").write_text(str(_PROCESSES))
        else:
            for controller, file, value in (
                ("memory", "memory.limit_in_bytes", memory),
                ("pids", "pids.max", _PROCESSES),
            ):
                group = _ROOT / controller / name[1:]
                group.mkdir(exist_ok=True)
                (group / file).write_text(str(value))
    except OSError as error:
        raise SandboxError(
            f"The control group {name} could not be limited: {error.strerror} ({error.filename}). "
            "The launcher must run as root on the machine of the engine."
        ) from None
    return name


def _limit_slice(name: str, limits: Mapping[str, int]) -> None:
    """Limit a slice until the next boot. Limits of the operator's unit file are kept."""
    shown = _systemctl("show", *(f"--property={limit}" for limit in limits), name)
    known = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    missing = [f"{limit}={value}" for limit, value in limits.items() if known.get(limit) == "infinity"]
    if missing:
        _systemctl("set-property", "--runtime", name, *missing)


def _systemctl(command: str, *words: str) -> str:
    try:
        done = subprocess.run(
            ["systemctl", command, *words], capture_output=True, text=True, check=False, timeout=_SYSTEMD
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    else:
        if done.returncode == 0:
            return done.stdout
        fault = done.stderr.strip()
    raise SandboxError(
        f"The engine leaves control groups to systemd, and `systemctl {command} {' '.join(words)}` failed: "
        f"{fault}. The launcher must run as root on the machine of the engine."
    )


def release(*, instance: str) -> None:
    """Remove the group if no container is in it."""
    groups = [_ROOT / f"gridapps-{instance}", *_ROOT.glob(f"*/gridapps-{instance}")]
    for group in groups:
        with suppress(OSError):
            group.rmdir()


def memory_for_containers() -> int:
    """Bytes: the node's memory minus a reserve of a tenth, but at least 1 GiB, or a quarter if less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total - max(total // 10, min(_GIB, total // 4))
