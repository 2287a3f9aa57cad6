"""The processes of a container, found and ended without the engine: by its control group."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def of(container: str, *, group: str) -> list[int]:
    """The process ids in a container's control group and below. `group` is the parent of all containers."""
    found: set[int] = set()
    for directory in _groups(container, group):
        # A group may go meanwhile: os.walk passes over it, and Path.glob does not.
        for below, _, _ in os.walk(directory):
            with suppress(OSError):
                found.update(int(line) for line in Path(below, "cgroup.procs").read_text().split())
    return sorted(found - {0})


def _groups(container: str, group: str) -> list[Path]:
    """Control groups of version 1 (by the pids controller) and 2, of both of the engine's drivers."""
    if not container:
        return []
    name = group.lstrip("/")
    return [
        path
        for base in (_ROOT / "pids" / name, _ROOT / name)
        for path in base.glob(f"*{container}*")
        if path.is_dir()
    ]


def end(container: str, *, group: str, grace: float) -> bool:
    """Tell the first process to end everything and report; kill it when it has not within `grace` seconds.

    With the first process the kernel ends all of its namespace. Whether nothing runs any more.
    """
    for number, seconds in ((signal.SIGUSR1, grace), (signal.SIGKILL, 10.0)):
        end = time.monotonic() + seconds
        for process in of(container, group=group):
            if number == signal.SIGKILL or _is_first(process):
                _signal(process, number, container)
        while of(container, group=group):
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        else:
            return True
    return False


def _is_first(process: int) -> bool:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                words = line.split()
                return len(words) > 2 and words[-1] == "1"
    return False


def _signal(process: int, number: int, container: str) -> None:
    """By a process descriptor, so that a reused process id cannot be hit."""
    try:
        descriptor = os.pidfd_open(process)
    except OSError:
        return
    try:
        if container in Path(f"/proc/{process}/cgroup").read_text():
            signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return
    finally:
        os.close(descriptor)
