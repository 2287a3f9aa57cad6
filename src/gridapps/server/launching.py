"""The launcher of this machine, as configured: how it is started, reached, and kept beside a worker."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from gridapps.config.environment import Environment
from gridapps.launcher.configuration import LauncherConfiguration
from gridapps.launcher.remote import RemoteSandbox
from gridapps.pki import membership
from gridapps.processes import privileges
from gridapps.runs.capacity import Capacity
from gridapps.sandbox.protocol import EngineUnavailable
from gridapps.server.instance import Unusable, identity
from gridapps.server.supervise import listens

_KEPT = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH"})
_KEPT_PREFIXES = ("LC_", "PYTHON", "COVERAGE_", "DOCKER_")  # DOCKER_*: how to reach the engine
_PATIENCE = 20.0  # seconds for the start of a launcher
_PAUSE = 0.5  # seconds before a launcher that ended is started again
_LOOK = 2.0  # seconds between two looks for a launcher that is started separately
_OTHERS = 16  # connections besides those of the worker, and containers besides two per slot


def configuration(settings: Environment, *, owner: int) -> LauncherConfiguration:
    """The configuration that the launcher is started with; `owner` is the worker's user id."""
    data = settings.data.absolute()
    member = membership.load(data)
    own = capacity(settings)
    ports = (settings.registry_port, settings.trusted_port)
    return LauncherConfiguration(
        socket=str(socket_of(settings)),
        owner=owner,
        connections=_connections(own.slots) + _OTHERS,
        engine=settings.engine,
        instance=identity(data),
        scratch=str(data / "scratch"),
        inputs=str(data / "inputs"),
        quota=settings.quota,
        runtime=settings.runtime,
        user_ids=(settings.user_range().start, settings.user_range().stop - 1),
        registries=(member.authority,) if member else tuple(f"127.0.0.1:{port}" for port in ports),
        cpus=own.cpus,
        memory=own.memory,
        disk=max(settings.node_disk, shutil.disk_usage(data).total),
        outputs=settings.max_output_files,
        containers=2 * own.slots + _OTHERS,
        log_format=settings.log_format,
    )


def capacity(settings: Environment, *, held: int = 0) -> Capacity:
    """The resources of this node for tasks; `held`: bytes of workspaces that exist already."""
    return Capacity.of_machine(
        settings.data.absolute(),
        slots=settings.slots,
        cpus=settings.node_cpus,
        memory=settings.node_memory,
        disk=settings.node_disk,
        held=held,
        floor=settings.min_free_disk,
    )


def clean_environment() -> dict[str, str]:
    """The launcher's environment: no settings, and so no passwords."""
    return {key: value for key, value in os.environ.items() if key in _KEPT or key.startswith(_KEPT_PREFIXES)}


def socket_of(settings: Environment) -> Path:
    """The launcher's socket."""
    return settings.data.absolute() / "run" / "launcher.sock"


def remote_sandbox(settings: Environment) -> RemoteSandbox:
    """The sandbox behind the launcher."""
    slots = capacity(settings).slots
    return RemoteSandbox(socket_of(settings), connections=_connections(slots))


def _connections(slots: int) -> int:
    """A task makes one call at a time. Adopted tasks of a previous worker may exceed the slots."""
    return 2 * slots + 64


def wait_for(sandbox: RemoteSandbox, *, say: Callable[[str], None]) -> int:
    """Wait until the launcher answers, and return the bytes of the workspaces that it holds."""
    said = False
    while True:
        try:
            return sandbox.held()
        except EngineUnavailable as error:
            if not said:
                say(f"Waiting for the launcher: {error}")
            said = True
            time.sleep(_LOOK)


def run_with_worker(
    settings: Environment, *, owner: int, worker: Sequence[str], environment: Mapping[str, str]
) -> int:
    """Run a launcher and a worker until both end, and return the exit status of the worker.

    A launcher that ends is started again. Meanwhile the worker and its containers continue.
    """
    command = configuration(settings, owner=owner).command(sys.executable)
    launcher = _start(command)
    _await(launcher, settings)
    child = subprocess.Popen(worker, env=environment)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.terminate())
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        if ended.si_pid == child.pid:
            break
        launcher.wait()
        time.sleep(_PAUSE)
        launcher = _start(command)
    launcher.terminate()
    launcher.wait()
    return child.wait()


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the launcher in a session of its own, because at an interrupt the worker must end before it."""
    return subprocess.Popen(
        command,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=partial(privileges.end_with_parent, signal.SIGTERM),  # noqa: PLW1509 - one thread
    )


def _await(launcher: subprocess.Popen[bytes], settings: Environment) -> None:
    end = time.monotonic() + _PATIENCE
    while not listens(str(socket_of(settings)), packets=True):
        if launcher.poll() is not None or time.monotonic() > end:
            launcher.kill()
            raise Unusable("The launcher did not start; the lines above say why.")
        time.sleep(0.02)
