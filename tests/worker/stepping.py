"""Workers that advance step by step, on a clock that the test sets.

The test decides how far each thread is when a process dies. Code and database are real; only one thread runs
at a time. A thread stops before each call of the queue and of the sandbox, and where it would sleep. There it
may be killed, or the call may fail: before it has any effect, or after it while its answer is lost.
"""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal, Self

import pytest
from django.db import OperationalError, connection, connections
from django.db.models.functions import Now

from gridapps.runs import queue
from gridapps.sandbox.fake import Ending, FakeSandbox
from gridapps.sandbox.protocol import EngineUnavailable
from gridapps.worker import attempt_control, attempt_signals, leases, patience, periodic, time_limit, worker
from gridapps.worker.worker import Worker

Fault = Literal["kill", "database, before", "database, after", "engine, before", "engine, after"]
_QUEUE = (
    *("claim", "adopt", "renew", "cancel_requested", "starting", "progress", "finish", "release"),
    *("expire", "lost"),
)
_SANDBOX = ("pull", "start", "wait", "stop", "outputs", "remove", "residents")
_STUCK = 30.0  # seconds; a step is a few statements

_SQLITE = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW', '+{:.3f} seconds')"
_POSTGRESQL = "(STATEMENT_TIMESTAMP() + INTERVAL '{:.3f} seconds')"

_here = threading.local()


class Killed(BaseException):
    """Kills the process of this thread. The product does not catch it."""


class Clock:
    """How many seconds all clocks, also the database's, are ahead of the real one."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.ahead += seconds
        pause()

    def method(self, template: str) -> Callable[..., Any]:
        """The database's clock, as a method of `Now`."""

        def compiled(function: Now, compiler: Any, database: Any, **context: Any) -> Any:
            return function.as_sql(compiler, database, template=template.format(self.ahead), **context)

        return compiled


class Stepped:
    """A thread that takes one step for each call of `step`."""

    def __init__(self, process: "Process", work: Callable[[], object]) -> None:
        self.process = process
        self.done = False
        self._work = work
        self._killed = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._run, daemon=True).start()

    def step(self) -> None:
        """Continue the thread until it stops or ends."""
        if not self.done:
            self._go.release()
            assert self._back.acquire(timeout=_STUCK), "a step does not end"

    def kill(self) -> None:
        self._killed = True
        self.step()

    def pause(self) -> None:
        """Wait for the next step. Called in the thread itself."""
        if self._killed:
            raise Killed
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def _run(self) -> None:
        _here.stepped = self
        self._go.acquire()
        try:
            if not self._killed:
                self._work()
        except Killed:
            self._killed = True
        finally:
            connections.close_all()
            self.done = True
            self._back.release()

    @property
    def was_killed(self) -> bool:
        return self._killed


def pause() -> None:
    """Stop the thread here if it is a stepped one."""
    stepped = getattr(_here, "stepped", None)
    if stepped is not None:
        stepped.pause()


class Faults:
    """Holds at most one fault, for the next call that it applies to."""

    def __init__(self) -> None:
        self.armed: Fault | None = None

    def around(self, part: str, error: Callable[[], Exception], call: Callable[..., Any]) -> Any:
        """The call, with a stop before it and the fault that applies to it."""

        def called(*arguments: Any, **named: Any) -> Any:
            if getattr(_here, "stepped", None) is None or connection.in_atomic_block:
                return call(*arguments, **named)
            pause()
            fault = self.armed if self.armed and self.armed.startswith(("kill", part)) else None
            if fault is None:
                return call(*arguments, **named)
            self.armed = None
            if fault == "kill":
                raise Killed
            if fault.endswith("after"):
                call(*arguments, **named)
            raise error()

        return called


class SteppedSandbox(FakeSandbox):
    """The fake sandbox with stops. Its calls do not wait."""

    def meet(self, faults: Faults) -> None:
        for name in _SANDBOX:
            wrapped = faults.around("engine", lambda: EngineUnavailable("It is away."), getattr(self, name))
            setattr(self, name, wrapped)

    def wait(self, name: str, *, timeout: float) -> Any:  # noqa: ARG002 - it takes no time
        return super().wait(name, timeout=0)

    def die(self) -> None:
        """The engine dies, and its containers with it."""
        self.available = False
        for container in self._containers.values():
            container.canceled.set()
            container.killed.set()
            container.end(Ending(exit_code=137, interrupted=True))


class Process:
    """A worker's process: its loop, its heart and its tasks. Killing one thread kills all."""

    def __init__(self, mine: Worker) -> None:
        self.worker = mine
        self.tasks: list[Stepped] = []
        self.loop = Stepped(self, mine.run)

    def beat(self) -> None:
        """One beat of the heart."""
        heart = Stepped(self, self.worker._beat_once)
        while not heart.done:
            heart.step()
        self._die_with(heart)

    def step(self, thread: Stepped) -> None:
        thread.step()
        self._die_with(thread)

    def _die_with(self, thread: Stepped) -> None:
        if thread.was_killed:
            self.kill()

    def kill(self) -> None:
        for thread in (self.loop, *self.tasks):
            thread.kill()

    @property
    def alive(self) -> bool:
        return not self.loop.done


class _Pool:
    """Replaces the worker's thread pool: each task is a stepped thread of the same process."""

    def __init__(self, *_: Any) -> None:
        self._process = _here.stepped.process

    def submit(self, work: Callable[..., object], *arguments: Any) -> None:
        self._process.tasks.append(Stepped(self._process, lambda: work(*arguments)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Bell:
    """Replaces the bell: the loop waits for its next step."""

    def __init__(self, *_: Any) -> None:
        pass

    def wait(self, _timeout: float) -> None:
        pause()

    def ring(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def install(patch: pytest.MonkeyPatch, clock: Clock, faults: Faults) -> None:
    """Replace the product's time, threads and bell by clock, stops and faults."""
    fake_time = SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    for module in (worker, attempt_control, attempt_signals, leases, patience, periodic, time_limit):
        patch.setattr(module, "time", fake_time)
    patch.setattr(worker, "ThreadPoolExecutor", _Pool)
    patch.setattr(worker, "WorkerBell", _Bell)
    patch.setattr(Worker, "_beat", lambda _self: None)
    patch.setattr(Now, "as_sqlite", clock.method(_SQLITE))
    patch.setattr(Now, "as_postgresql", clock.method(_POSTGRESQL))
    for name in _QUEUE:
        away = faults.around("database", lambda: OperationalError("It is away."), getattr(queue, name))
        patch.setattr(queue, name, away)
