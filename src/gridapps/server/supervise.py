"""Start the parts of an instance in order, restart those that end, and stop them in reverse order.

Parts that are other programs are executed after they have given up all rights but their account's. Parts that
are commands of this program are forked from the supervisor, which has imported their modules, so they share
its memory. Each child has a session of its own, so that a terminal's interrupt reaches the supervisor only.
Children end with the supervisor even when it is killed (parent-death signal). Processes that survive this,
such as the workers of a killed nginx, are found by the next start: they hold the lock file of their part.
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
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import IO, NoReturn

from gridapps.processes import leftovers, part_states, privileges
from gridapps.processes.part_states import PartState
from gridapps.server import accounts
from gridapps.server.part_logs import PartLogs
from gridapps.server.part_watch import PartWatch
from gridapps.server.plan import SIGNALS, Listens, Makes, PlannedPart, Program

FASTEST_RESTART, SLOWEST_RESTART = 0.5, 30.0  # seconds
LOOK = 0.5  # seconds between two calls of `look`
_START_PATIENCE = 120.0  # seconds that a part may take to start on a busy machine
_LINES = 12  # of the log of a part that did not start
_AFTER_KILL = 5.0  # seconds
_SILENT = 10.0  # seconds without an answer after which `status` shows it
_AFTER_STOP = 1.0  # seconds for processes that left the process group of their part
STOPPED_EARLY = "Stopped before it was started."


class NotStarted(Exception):
    """A part did not start; the message has the end of its log."""


class Forked(BaseException):
    """Raised in a forked child to unwind the supervisor's frames."""

    def __init__(self, part: PlannedPart, kept: Sequence[int]) -> None:
        self.part = part
        self.kept = kept  # descriptors that stay open in the part


@dataclass
class Child:
    """The process of a part, and how often it was restarted."""

    part: PlannedPart
    pid: int = 0
    status: int | None = None  # exit status, negative for a signal; None while it runs
    started: float = 0.0
    restarts: int = 0  # without a minute of life between them
    all_restarts: int = 0
    looked: float = 0.0
    watch: PartWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = PartWatch(self.part.asks)

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended.

        Before the id of an ended process is released, the rest of its process group is killed: the workers of
        a killed nginx would keep the port.
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
    """Runs parts until `stop`. Calls `look` periodically with the process id of a part that shares files."""

    def __init__(
        self,
        *,
        parts: Sequence[PlannedPart],
        data: Path,
        say: Callable[[str], None],
        look: Callable[[int], None] = lambda _: None,
        patience: float = 20.0,  # seconds that a part may take to stop before it is killed
        start_patience: float = _START_PATIENCE,
        part_timeout: float = 0.0,  # seconds without an answer after which a part is restarted; 0: never
        group: int | None = None,  # that reads the states of the parts
    ) -> None:
        self.children = [Child(part) for part in parts]
        self._logs = PartLogs(data / "log")
        self._locks = data / "run"
        self._say = say
        self._look = look
        self._patience = patience
        self._start_patience = start_patience
        self._part_timeout = part_timeout
        self._data = data
        self._group = os.getegid() if group is None else group
        self._states: dict[str, PartState] = {}
        self._stopping = Event()
        self._failure = ""  # of the last call of `look`

    def stop(self) -> None:
        """Ask the supervisor to stop; safe in a signal handler."""
        self._stopping.set()

    def start(self) -> bool:
        """Start every part once the one before it is ready. False when `stop` was called meanwhile.

        In that case, and after NotStarted, all parts have been stopped.
        """
        for child in self.children:
            if self._stopping.is_set():
                self.shut_down()
                return False
            self._spawn(child)
            deadline = time.monotonic() + self._start_patience
            while not self._stopping.is_set() and not _ready(child.part):
                if not child.runs or time.monotonic() > deadline:
                    why = (
                        f"was not ready within {self._start_patience:g} s, and was stopped. Perhaps the "
                        "machine is too busy: start the instance again."
                        if child.runs
                        else f"ended with {child.status} before it was ready."
                    )
                    self.shut_down()
                    raise NotStarted(f"{child.part.name} {why} {self._logged(child.part)}")
                self._logs.wait(0.02)
        return True

    def _logged(self, part: PlannedPart) -> str:
        """What a part has logged in this start."""
        log = self._logs.of(part.name)
        lines = log.tail(_LINES)
        return f"What it logged ({log.path}):\n{lines}" if lines else f"It logged nothing ({log.path})."

    def watch(self) -> None:
        """Restart parts that end, after growing pauses, until `stop`. Then stop all in reverse order."""
        for child in self.children:
            child.watch.begin()  # the start of the others took time
        while not self._stopping.is_set():
            self._logs.wait(0.2)
            for child in self.children:
                if not child.runs:
                    self._revive(child)
                    continue
                self._end_if_silent(child)
                if child.part.shares_storage and time.monotonic() > child.looked + LOOK:
                    child.looked = time.monotonic()
                    self._look_after(child)
            self._note_states()
        self.shut_down()

    def shut_down(self) -> None:
        """Stop the parts in reverse order, and then processes that left the group of their part."""
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
        """Call `look`. Its failures do not end the instance; each is reported once."""
        try:
            self._look(child.pid)
        except Exception as error:
            if (text := str(error)) != self._failure:
                self._say(f"{child.part.name} cannot be looked after: {text}")
            self._failure = text
        else:
            self._failure = ""

    def _end_if_silent(self, child: Child) -> None:
        """Kill a part that has not answered for too long. The next look starts it again."""
        child.watch.look(child.pid)
        if self._part_timeout and child.watch.silent > self._part_timeout:
            self._say(f"{child.part.name} has not answered for {child.watch.silent:.0f} s, and is killed")
            os.killpg(child.pid, signal.SIGKILL)
            child.watch.begin()

    def _note_states(self) -> None:
        """Tell `status` and the metrics what has changed."""
        states = {}
        for child in self.children:
            before = self._states.get(child.part.name)
            since = None
            if child.watch.silent > _SILENT:
                since = (before and before.silent_since) or time.time() - child.watch.silent
            states[child.part.name] = PartState(restarts=child.all_restarts, silent_since=since)
        if states != self._states:
            with contextlib.suppress(OSError):  # the disk is full: the next look tries again
                part_states.write(self._data, states, group=self._group)
                self._states = states

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
        child.all_restarts += 1
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
        child.watch.begin()


def _held(path: Path) -> IO[str]:
    """The lock file of a part, locked. It is replaced if a process holds it exclusively."""
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
    """Become the part."""
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
    """End processes that a killed supervisor left running: SIGTERM first, SIGKILL after `patience` seconds.

    Only for the holder of the instance's lock, so that parts of a running instance are not ended.
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
    """Whether a TCP address, or a unix socket of streams or packets, accepts connections."""
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
