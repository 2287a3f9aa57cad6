"""One process tree: starts the parts of an instance in order, restarts what dies, stops all of it in order.

Parts that are programs are executed, after they have given up all rights but their account's. Parts that are
commands of this program are forked from the supervisor, which has imported all that they need: they share its
memory. The children live in sessions of their own, so that a terminal's interrupt reaches the supervisor
alone, and they end with it even when it is killed (Linux's parent-death signal). What outlives that, as the
workers of a killed nginx do, is found by the next start: every process of a part holds the part's lock file.
"""

import contextlib
import fcntl
import math
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO, NoReturn

from gridapps.processes import leftovers, privileges
from gridapps.server import accounts
from gridapps.server.part_logs import PartLogs
from gridapps.server.plan import SIGNALS, Listens, Makes, PlannedPart, Program

FASTEST_RESTART, SLOWEST_RESTART = 0.5, 30.0  # seconds
LOOK = 0.5  # seconds between two calls of `look`
_START_PATIENCE = 120.0  # seconds that a part may take to start; a busy machine is slow
_AFTER_KILL = 5.0  # seconds
_AFTER_STOP = 1.0  # seconds for what left the group of a part
STOPPED_EARLY = "Stopped before it was started."


class NotStarted(Exception):
    """A part did not come up; the message carries the end of its log."""


class Forked(BaseException):
    """Raised in the child that a part has been forked into, so that it leaves the supervisor's frames."""

    def __init__(self, part: PlannedPart, kept: Sequence[int]) -> None:
        self.part = part
        self.kept = kept  # descriptors that stay open in the part


@dataclass
class Child:
    """A part's process, and how often it had to be started again."""

    part: PlannedPart
    pid: int = 0
    status: int | None = None  # exit status, negative for a signal; None while it runs
    started: float = 0.0
    restarts: int = 0
    looked: float = 0.0

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended.

        What an ended one left in its process group is killed before its id is given free: the workers of a
        killed nginx would live on, and keep the port from the next one.
        """
        if (
            self.pid
            and self.status is None
            and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        ):
            with contextlib.suppress(ProcessLookupError):  # it ended before it had a group
                os.killpg(self.pid, signal.SIGKILL)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.pid > 0 and self.status is None


class Supervisor:
    """Runs parts until `stop`. `look` is called now and then with the process id of a part that needs it."""

    def __init__(
        self,
        *,
        parts: Sequence[PlannedPart],
        data: Path,
        say: Callable[[str], None],
        look: Callable[[int], None] = lambda _: None,
        patience: float = 20.0,  # seconds that a part may take to stop before it is killed
    ) -> None:
        self.children = [Child(part) for part in parts]
        self._logs = PartLogs(data / "log")
        self._locks = data / "run"
        self._say = say
        self._look = look
        self._patience = patience
        self._stopping = Event()
        self._failure = ""  # of the last call of `look`

    def stop(self) -> None:
        """Ask for the end; safe in a signal handler."""
        self._stopping.set()

    def start(self) -> bool:
        """Start every part, each when the one before it is ready; False when `stop` was called meanwhile.

        Then, and after NotStarted, nothing is left running.
        """
        for child in self.children:
            if self._stopping.is_set():
                self.shut_down()
                return False
            self._spawn(child)
            deadline = time.monotonic() + _START_PATIENCE
            while not self._stopping.is_set() and not _ready(child.part):
                if not child.runs or time.monotonic() > deadline:
                    self.shut_down()
                    log = self._logs.of(child.part.name).path
                    raise NotStarted(f"{child.part.name} did not start. The end of {log}:\n{_tail(log)}")
                self._logs.wait(0.02)
        return True

    def watch(self) -> None:
        """Restart what dies, with growing pauses, until `stop`; then stop all parts, the last one first."""
        while not self._stopping.is_set():
            self._logs.wait(0.2)
            for child in self.children:
                if not child.runs:
                    self._revive(child)
                elif child.part.shares_storage and time.monotonic() > child.looked + LOOK:
                    child.looked = time.monotonic()
                    self._look_after(child)
        self.shut_down()

    def shut_down(self) -> None:
        """Stop what runs, the last part first, and what left the group of its part."""
        for child in reversed(self.children):
            if not child.runs:
                continue
            os.kill(child.pid, signal.SIGTERM)
            deadline = time.monotonic() + self._patience
            while child.runs:
                if time.monotonic() > deadline:
                    self._say(f"{child.part.name} did not stop within {self._patience:.0f} s and was killed")
                    os.kill(child.pid, signal.SIGKILL)
                    deadline = math.inf
                self._logs.wait(0.02)
        end_leftovers(self._locks, patience=_AFTER_STOP, say=self._say)
        self._logs.flush()

    def _look_after(self, child: Child) -> None:
        """Nothing that a part or a full disk does to `look` ends the instance. A failure is said once."""
        try:
            self._look(child.pid)
        except Exception as error:
            if (text := str(error)) != self._failure:
                self._say(f"{child.part.name} cannot be looked after: {text}")
            self._failure = text
        else:
            self._failure = ""

    def _revive(self, child: Child) -> None:
        lived = time.monotonic() - child.started
        if lived > 60:
            child.restarts = 0
        pause = min(FASTEST_RESTART * 2**child.restarts, SLOWEST_RESTART) if child.restarts else 0.0
        if lived < pause:
            return
        name = child.part.name
        self._say(f"{name} ended with {child.status}: started again (log: {name}.log)")
        child.restarts += 1
        self._spawn(child)

    def _spawn(self, child: Child) -> None:
        """Start a part. In the child process: raises Forked, or executes the program."""
        parent = os.getpid()
        log = self._logs.of(child.part.name).writer
        with _held(self._locks / f"{child.part.name}.held") as held:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                child.pid = os.fork()
                if not child.pid:
                    _begin(child.part, parent=parent, log=log, held=os.dup(held.fileno()))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        child.status = None
        child.started = time.monotonic()


def _held(path: Path) -> IO[str]:
    """The lock file of a part, locked. A process that holds it alone gets another one put in its place."""
    held = path.open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        path.unlink()
        held = path.open("w")
        fcntl.flock(held, fcntl.LOCK_SH)
    return held


def _begin(part: PlannedPart, *, parent: int, log: int, held: int) -> NoReturn:
    """Be the part from here on."""
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.umask(part.umask)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold keys
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        if isinstance(part.runs, Program):
            os.set_inheritable(held, True)
            privileges.end_with_parent(signal.SIGTERM)
        else:
            accounts.confine(part.account)
            privileges.end_with_parent(signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if os.getppid() != parent:
            os._exit(1)
        if isinstance(part.runs, Program):
            _execute(part, part.runs)
    except BaseException as error:
        os.write(2, f"{part.name} cannot be started: {error}\n".encode())
        os._exit(127)
    raise Forked(part, (held, part.runs.environment))


def _execute(part: PlannedPart, program: Program) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    command = [*accounts.command(part.account, capabilities=program.capabilities), *program.command]
    os.execve(command[0], command, program.environment)  # noqa: S606 - no shell is wanted


def end_leftovers(run: Path, *, patience: float, say: Callable[[str], None]) -> None:
    """End what a killed supervisor's parts left running: asked first, killed after `patience` seconds.

    Only for the holder of the instance's own lock, so that no parts of a running instance are ended.
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


def listens(address: tuple[str, int] | str, *, packets: bool = False) -> bool:
    """Whether connections are accepted at a TCP address, or at a unix socket of streams or of packets."""
    family = (
        socket.AF_UNIX
        if isinstance(address, str)
        else socket.AF_INET6
        if ":" in address[0]
        else socket.AF_INET
    )
    with socket.socket(family, socket.SOCK_SEQPACKET if packets else socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


def _ready(part: PlannedPart) -> bool:
    match part.ready:
        case Listens(address, packets):
            return listens(address, packets=packets)
        case Makes(directory, ending):
            return any(name.endswith(ending) for name in os.listdir(directory))  # noqa: PTH208 - names
    return True


def _tail(path: Path, lines: int = 12) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
