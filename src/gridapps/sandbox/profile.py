"""The security profile: the whole configuration that a container is created with.

Of an image's configuration only ENTRYPOINT, CMD, WORKDIR and ENV have an effect. Init receives the command
and changes to WORKDIR itself, because a runtime that changes to it can be led out of the container. The
variables of the contract override those of the image, except those that size pools of threads.
"""

import json
import math
import os
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from gridapps.sandbox.account_files import NAME
from gridapps.sandbox.engine.responses import Image, ImageConfig
from gridapps.sandbox.protocol import EntryPoint, ImageUnavailable, Launch, Unexplained
from gridapps.sandbox.resources import LEAST
from gridapps.sandbox.workspace import Workspace

INIT_BINARY = Path(__file__).parent / "init" / "gridapps-init"
SECCOMP = Path(__file__).parent / "seccomp.json"
MAX_ENVIRONMENT = 64 * 1024  # bytes of an image's ENV; with much more the kernel starts no program
CONTRACT = "1.1"
INPUT_NAME = "pointcloud.laz"  # also names files in other formats, for programs of contract 1.0
HOSTS = Path(__file__).parent / "hosts"
# Libraries read the first group's variables, and OMP_NUM_THREADS if theirs is missing.
_OPENMP = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
_OTHER_POOLS = (
    "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "LOKY_MAX_CPU_COUNT", "JULIA_NUM_THREADS",
    "GOMAXPROCS", "R_DATATABLE_NUM_THREADS", "MC_CORES", "PYTHON_CPU_COUNT",
)  # fmt: skip

_INSIDE = "/.gridapps"
_VOLUMES_THAT_ARE_OURS = frozenset({"/grid", "/tmp"})  # noqa: S108 - paths inside the container
_MASKED = [
    "/dev/mqueue",  # queues could be created there as files, bypassing the system call filter
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/proc/kallsyms"),
    *(
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/sys/devices/virtual/dmi",
        "/sys/kernel",
        "/sys/module",
    ),
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def entry_point(image: Image) -> EntryPoint:
    """What an image runs, as the engine describes it: for releases from before pushes recorded it.

    Raises ImageUnavailable for an image that no node may run, even if the push accepted it; Unexplained when
    the engine does not know the image's configuration.
    """
    if not image.os:
        # moby issue 49784: Docker 28 with the containerd store, if it has a layer in another compression too.
        raise Unexplained("The engine has the image, but does not describe it: push the image again.")
    config = image.config or ImageConfig()
    if not config.entrypoint:
        raise ImageUnavailable("The image has no ENTRYPOINT, so there is nothing to run.")
    if sum(len(word.encode()) + 1 for word in config.env or []) > MAX_ENVIRONMENT:
        raise ImageUnavailable(f"The image's ENV is longer than {MAX_ENVIRONMENT} bytes.")
    if (image.os, image.architecture) != ("linux", "amd64"):
        raise ImageUnavailable(f"The image is for {image.os}/{image.architecture}, not for linux/amd64.")
    return EntryPoint(
        command=[*config.entrypoint, *(config.cmd or [])],
        workdir=config.working_dir or "/",
        environment=config.env or [],
    )


def refuse_volumes(image: Image) -> None:
    """Raise ImageUnavailable if the engine would make volumes for the image."""
    foreign = sorted(set((image.config or ImageConfig()).volumes or {}) - _VOLUMES_THAT_ARE_OURS)
    if foreign:
        raise ImageUnavailable(
            f"The image declares VOLUME {foreign[0]!r}: only /grid and /tmp can be written to."
        )


def container(
    *,
    launch: Launch,
    workspace: Workspace,
    entry: EntryPoint,
    labels: Mapping[str, str],
    runtime: str,
    cgroup: str,
) -> dict[str, Any]:
    """The body of the engine's "create a container" call."""
    user = workspace.user()
    return {
        "Image": launch.image,
        "Entrypoint": [f"{_INSIDE}/init"],
        "Cmd": _init_words(launch, entry, user=user),
        "Env": [f"{name}={value}" for name, value in environment(launch, entry).items()],
        "User": f"{user}:{user}",
        "WorkingDir": "/",
        "Hostname": "grid",
        "NetworkDisabled": True,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "Tty": False,
        "OpenStdin": False,
        **{f"Attach{stream}": False for stream in ("Stdin", "Stdout", "Stderr")},
        "Labels": dict(labels),
        "HostConfig": _host(launch, workspace, runtime=runtime, cgroup=cgroup),
    }


def unstarted(image: str, *, labels: Mapping[str, str]) -> dict[str, Any]:
    """The body for a container that is created only to inspect the files of an image."""
    return {
        "Image": image,
        "Entrypoint": ["/never-started"],
        "NetworkDisabled": True,
        "Labels": dict(labels),
        "HostConfig": {"NetworkMode": "none", "ReadonlyRootfs": True, "CapDrop": ["ALL"], "Mounts": []},
    }


def environment(launch: Launch, entry: EntryPoint) -> dict[str, str]:
    """The environment of the image, and over it that of the contract."""
    given = dict(variable.split("=", 1) for variable in entry.environment if "=" in variable)
    return {
        **given,
        **_pools(launch, entry),
        "GRID_CONTRACT": CONTRACT,
        "GRID_INPUT": f"/input/{launch.input_name}",
        "GRID_OUTPUT": "/grid",
        "GRID_RUN": launch.run,
        "GRID_TASK": launch.task,
        "GRID_CPUS": f"{launch.limits.cpus:g}",
        "GRID_MEMORY_BYTES": str(launch.limits.memory),
        "GRID_DISK_BYTES": str(launch.limits.disk),
        "GRID_TMP_BYTES": str(_memory(launch)),
        "GRID_SCRATCH": "/grid-scratch",
        "GRID_MAX_OUTPUTS": str(launch.limits.outputs),
        "GRID_DEADLINE": launch.deadline.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "HOME": "/tmp",  # noqa: S108
        "TMPDIR": "/tmp",  # noqa: S108
        "USER": NAME,
        "LOGNAME": NAME,
    }


def _pools(launch: Launch, entry: EntryPoint) -> dict[str, str]:
    """The sizes of thread pools, which libraries otherwise derive from the processors of the machine.

    An image that sets a variable keeps it, and one of OpenMP also decides for the libraries that read it.
    """
    given = {variable.partition("=")[0] for variable in entry.environment}
    names = {*_OTHER_POOLS, *(() if given & {*_OPENMP} else _OPENMP)} - given
    threads = str(math.ceil(min(launch.limits.cpus, os.cpu_count() or 1)))
    return dict.fromkeys(sorted(names), threads)


def _memory(launch: Launch) -> int:
    """Bytes of memory, and of /tmp and /dev/shm, because the files in them take memory.

    A run may be older than the minimum, and an engine treats very small values as no limit.
    """
    return max(launch.limits.memory, int(LEAST["memory"]))


def _init_words(launch: Launch, entry: EntryPoint, *, user: int) -> list[str]:
    files = [f"{_INSIDE}/arguments", "/grid/stdout.txt", f"{_INSIDE}/run/log", f"{_INSIDE}/report/status"]
    return [*files, str(launch.limits.log), str(user), entry.workdir, *entry.command]


def _host(launch: Launch, workspace: Workspace, *, runtime: str, cgroup: str) -> dict[str, Any]:
    limits = launch.limits
    memory = _memory(launch)
    cpus = max(limits.cpus, LEAST["cpus"])  # a run may be older than the minimum
    host: dict[str, Any] = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp()}"],
        "Privileged": False,
        "Mounts": _mounts(launch, workspace),
        "Tmpfs": {"/tmp": f"rw,nosuid,nodev,exec,size={memory},mode=1777"},  # noqa: S108
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": int(min(cpus, os.cpu_count() or 1) * 1e9),
        "PidsLimit": limits.processes + 1,  # and init
        "OomScoreAdj": 900,
        "Ulimits": _ulimits(launch),
        "IpcMode": "private",
        "ShmSize": memory,
        "CgroupParent": cgroup,
        "CgroupnsMode": "private",
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "Init": False,
        "MaskedPaths": _MASKED,
        "ReadonlyPaths": _READ_ONLY,
    }
    if runtime:
        host["Runtime"] = runtime
    return host


def _ulimits(launch: Launch) -> list[dict[str, Any]]:
    """The kernel counts refused forks for the pids limit only, so nproc is set too high to be reached. fsize
    applies to all files."""
    limits = launch.limits
    values = {
        "nofile": limits.open_files,
        "nproc": 2 * limits.processes + 64,
        "core": 0,
        "memlock": 65536,
        "fsize": max(limits.disk, _memory(launch), limits.log + 65536),
    }
    return [{"Name": name, "Soft": value, "Hard": value} for name, value in values.items()]


def _mounts(launch: Launch, workspace: Workspace) -> list[dict[str, Any]]:
    """The engine refuses a mount whose source is missing; with `Binds` it would create the source."""
    inputs = sorted({INPUT_NAME, launch.input_name})
    return [
        _bind(INIT_BINARY, f"{_INSIDE}/init", read_only=True),
        _bind(workspace.arguments, f"{_INSIDE}/arguments", read_only=True),
        _bind(workspace.run, f"{_INSIDE}/run", read_only=False),
        _bind(workspace.report, f"{_INSIDE}/report", read_only=False),
        _bind(workspace.grid, "/grid", read_only=False),
        _bind(workspace.scratch, "/grid-scratch", read_only=False),
        _bind(HOSTS, "/etc/hosts", read_only=True),
        _bind(workspace.passwd, "/etc/passwd", read_only=True),
        _bind(workspace.group, "/etc/group", read_only=True),
        *(_bind(launch.input, f"/input/{name}", read_only=True) for name in inputs),
    ]


def _bind(source: Path, target: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def seccomp() -> str:
    """The list of allowed system calls, as the engine expects it. Every other call fails with EPERM."""
    return json.dumps(json.loads(SECCOMP.read_bytes()), separators=(",", ":"))
