"""One process tree: starts the parts of an instance in order, restarts what dies, stops all of it in order.

The children live in sessions of their own, so that a terminal's interrupt reaches the supervisor alone, and
they end with it even when it is killed (Linux's parent-death signal). Who outlives that, as the workers of a
killed nginx do, is found by the next start: every process of a part holds the part's lock file.
"""

import contextlib
import ctypes
import fcntl
import math
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gridapps import leftovers
from gridapps.server import accounts
from gridapps.server.part_logs import PartLogs

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

FASTEST_RESTART, SLOWEST_RESTART = 0.5, 30.0  # seconds
LOOK = 0.5  # seconds between two calls of a part's `look`
_AFTER_KILL = 5.0  # seconds


class NotStarted(Exception):
    """A part did not come up; the message carries the end of its log."""


@dataclass(kw_only=True)
class Part:
    """A child process of the instance."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    start_patience: float = 120.0  # seconds that it may take to start; a busy machine is slow
    patience: float = 20.0  # seconds that it may take to stop before it is killed
    account: accounts.Account | None = None  # what it runs under; None: what the supervisor does
    capabilities: Sequence[str] = ()  # that it keeps under its account
    umask: int = 0o077
    look: Callable[[int], None] | None = None  # called with its process id while it runs, twice a second
    looked: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started: float = field(default=0.0)


class Supervisor:
    """Runs parts until `stop`."""

    def __init__(self, *, parts: Sequence[Part], data: Path, say: Callable[[str], None]) -> None:
        self._parts = parts
        self._logs = PartLogs(data / "log")
        self._locks = data / "run"
        self._say = say
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask for the end; safe in a signal handler."""
        self._stopping.set()

    def start(self) -> None:
        """Start every part, each when the one before it is ready. After NotStarted nothing is left."""
        for part in self._parts:
            self._spawn(part)
            deadline = time.monotonic() + part.start_patience
            while not part.ready():
                if self._stopping.is_set() or _ended(part) or time.monotonic() > deadline:
                    self.shut_down()
                    log = self._logs.of(part.name).path
                    raise NotStarted(f"{part.name} did not start. The end of {log}:\n{_tail(log)}")
                self._logs.wait(0.02)

    def watch(self) -> None:
        """Restart what dies, with growing pauses, until `stop`; then stop all parts, the last one first."""
        while not self._stopping.is_set():
            self._logs.wait(0.2)
            for part in self._parts:
                if part.process is None:
                    continue
                if _ended(part):
                    self._revive(part)
                elif part.look is not None and time.monotonic() > part.looked + LOOK:
                    part.looked = time.monotonic()
                    part.look(part.process.pid)
        self.shut_down()

    def shut_down(self) -> None:
        """Stop what runs, the last part first."""
        for part in reversed(self._parts):
            if part.process is None or _ended(part):
                continue
            part.process.send_signal(part.stop_signal)
            deadline = time.monotonic() + part.patience
            while not _ended(part):
                if time.monotonic() > deadline:
                    self._say(f"{part.name} did not stop within {part.patience:.0f} s and was killed")
                    part.process.kill()
                    deadline = math.inf
                self._logs.wait(0.02)
        self._logs.flush()

    def _revive(self, part: Part) -> None:
        assert part.process is not None
        lived = time.monotonic() - part.started
        if lived > 60:
            part.restarts = 0
        pause = min(FASTEST_RESTART * 2**part.restarts, SLOWEST_RESTART) if part.restarts else 0.0
        if lived < pause:
            return
        self._say(f"{part.name} ended with {part.process.returncode}: started again (log: {part.name}.log)")
        part.restarts += 1
        self._spawn(part)

    def _spawn(self, part: Part) -> None:
        parent = os.getpid()

        def die_with_parent() -> None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold keys
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        log = self._logs.of(part.name).writer
        with (self._locks / f"{part.name}.held").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            part.process = subprocess.Popen(
                [*accounts.command(part.account, capabilities=part.capabilities), *part.command],
                env=dict(part.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[held.fileno()],
                start_new_session=True,
                umask=part.umask,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - the supervisor has a single thread when it spawns
            )
        part.started = time.monotonic()


def _ended(part: Part) -> bool:
    """Whether the part has ended. What it left in its process group is killed before its id is given free.

    The workers of a killed nginx would live on, and keep the port from the next one.
    """
    assert part.process is not None
    if part.process.returncode is None and os.waitid(
        os.P_PID, part.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ):
        os.killpg(part.process.pid, signal.SIGKILL)
        part.process.wait()
    return part.process.returncode is not None


def end_leftovers(run: Path, *, patience: float, say: Callable[[str], None]) -> None:
    """End what a killed supervisor's parts left running: asked first, killed after `patience` seconds.

    Only for who holds the instance's own lock, so that nobody's parts are running.
    """
    for held in sorted(run.glob("*.held")):
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, _AFTER_KILL)):
            if leftovers.is_free(held):
                break
            for process in leftovers.holders(held):
                say(f"{held.stem}: process {process} of the last start still runs: {number.name}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
            end = time.monotonic() + seconds
            while time.monotonic() < end and not leftovers.is_free(held):
                time.sleep(0.05)


def listens(address: tuple[str, int] | str) -> bool:
    """Whether somebody accepts connections at this TCP address or unix socket."""
    family = (
        socket.AF_UNIX
        if isinstance(address, str)
        else socket.AF_INET6
        if ":" in address[0]
        else socket.AF_INET
    )
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


def _tail(path: Path, lines: int = 12) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
