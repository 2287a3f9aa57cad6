"""Finding and ending the processes of a container by its control group, without the engine."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def processes_of(container: str, *, group: str) -> list[int]:
    """The ids of the processes of a container. `group` is the control group above all containers."""
    found: set[int] = set()
    for directory in _groups(container, group):
        # A group may vanish meanwhile: os.walk skips it, Path.glob raises.
        for below, _, _ in os.walk(directory):
            with suppress(OSError):
                found.update(int(line) for line in Path(below, "cgroup.procs").read_text().split())
    return sorted(found - {0})


def _groups(container: str, group: str) -> list[Path]:
    """Its control groups, in version 1 (the pids controller) or 2, with either driver of the engine."""
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
    """End all processes of a container: init gets `grace` seconds to end them and to report, then all are
    killed. Returns whether they have ended.

    When init ends, the kernel kills all processes of its namespace.
    """
    for number, seconds in ((signal.SIGUSR1, grace), (signal.SIGKILL, 10.0)):
        end = time.monotonic() + seconds
        for process in processes_of(container, group=group):
            if number == signal.SIGKILL or _is_first(process):
                _signal(process, number, container)
        while processes_of(container, group=group):
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
    """Uses a process descriptor, so that no process that reuses the id gets the signal."""
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
