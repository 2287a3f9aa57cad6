"""The worker of a node: claims tasks, runs each in a thread, renews leases, and puts right what it finds.

It needs nobody: no broker, no message that must not be lost. When it starts it adopts the containers of its
predecessor, gives back the attempts that have none, and removes the containers that nobody needs.
"""

import fcntl
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections

from gridapps.runs import queue
from gridapps.runs.bell import Bell
from gridapps.runs.execution import Execution, Node, Signals
from gridapps.runs.models import Task
from gridapps.runs.queue import Claim
from gridapps.runs.states import State
from gridapps.runs.store import tidy
from gridapps.sandbox.protocol import EngineUnavailable, Resident, SandboxError

logger = logging.getLogger(__name__)

BEAT = 1.0  # seconds between two looks at the rows of running tasks
SLEEP = 5.0  # seconds after which a worker looks at the queue although nobody rang
RECONCILE = 30.0  # seconds between two comparisons of rows and containers
EXPIRE = 5.0  # seconds between two looks for leases that ran out


class NodeTaken(Exception):
    """Another worker of this node runs on this machine."""


class Worker:
    """One per node and machine; a lock file sees to that."""

    def __init__(self, *, node: Node, slots: int, lease: timedelta, on_stop: str, lock: Path) -> None:
        self._node = node
        self._slots = slots
        self._lease = lease
        self._on_stop = on_stop
        self._lock = lock
        self._stopping = threading.Event()
        self._active: dict[Claim, Signals] = {}
        self._guard = threading.Lock()
        self._busy = threading.Event()  # tasks run, or the worker stops: the heart has something to do
        self._unclean = threading.Event()  # something waits to be removed: compare soon
        self._bell: Bell | None = None
        # Since when the database answers: until a lease after it, silence is no sign of death.
        self._answers_since = time.monotonic()

    def stop(self) -> None:
        """Ask the worker to stop; `run` returns when every thread has ended. Safe in a signal handler."""
        self._stopping.set()
        self._busy.set()
        if self._bell:
            self._bell.ring()

    def run(self) -> None:
        """Work until `stop`. Raises NodeTaken."""
        with self._lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise NodeTaken(f"A worker of node {self._node.name!r} runs already.") from None
            heart = threading.Thread(target=self._beat, name="heart")
            heart.start()
            # More threads than slots: what a predecessor left running is adopted, however much it is.
            with Bell(self._node.name) as self._bell, ThreadPoolExecutor(1024, "task") as pool:
                self._loop(pool, self._bell)
                self._tell_all()
            heart.join()
            connections.close_all()

    def _loop(self, pool: ThreadPoolExecutor, bell: Bell) -> None:
        adopted = False
        compared = expired = 0.0
        while not self._stopping.is_set():
            try:
                if not adopted:
                    self._adopt(pool)
                    adopted = True
                    compared = time.monotonic()
                if time.monotonic() - expired > EXPIRE:
                    self._expire()
                    expired = time.monotonic()
                if self._unclean.is_set() or time.monotonic() - compared > RECONCILE:
                    self._remove_orphans(self._residents())
                    compared = time.monotonic()
                    self._unclean.clear()
                self._fill(pool)
            except DatabaseError as error:
                self._note_outage(error)
            except SandboxError as error:
                logger.warning("Node %s cannot work now: %s", self._node.name, error)
            except Exception:
                # A worker that ends here would wait for its tasks and claim no other for as long as they run.
                logger.exception("Node %s: tried again in %s s", self._node.name, SLEEP)
            bell.wait(SLEEP)

    def _expire(self) -> None:
        """Give back what silent workers hold. Nobody is silent who had no time to renew a lease: after this
        worker's start, and after the database was away, a whole lease passes first."""
        if time.monotonic() - self._answers_since > self._lease.total_seconds():
            with self._guard:
                mine = dict(self._active)
            # The clock may have jumped, or this process been stopped for a while: it is alive, after all.
            self._renew(mine)
            queue.expire()

    def _note_outage(self, error: Exception) -> None:
        self._answers_since = time.monotonic()
        logger.warning("The database does not answer: %s", error)
        close_old_connections()

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        """Claim until every slot is taken, the queue is empty, or a task found the node unfit."""
        while not self._stopping.is_set() and len(self._active) < self._slots and not self._waiting():
            claim = queue.claim(node=self._node.name, lease=self._lease)
            if claim is None:
                return
            self._submit(pool, claim, adopted=False)

    def _waiting(self) -> bool:
        with self._guard:
            return any(signals.waiting.is_set() for signals in self._active.values())

    def _submit(self, pool: ThreadPoolExecutor, claim: Claim, *, adopted: bool) -> None:
        signals = Signals()
        with self._guard:
            self._active[claim] = signals
            self._busy.set()
        pool.submit(self._execute, claim, signals, adopted)

    def _execute(self, claim: Claim, signals: Signals, adopted: bool) -> None:
        try:
            Execution(claim=claim, node=self._node, signals=signals).run(adopted=adopted)
        except Exception:
            # The lease runs out, and the reconciler gives the task back.
            logger.exception("task %s: its thread died", claim.task)
        finally:
            connections.close_all()
            with self._guard:
                del self._active[claim]
            if signals.unclean.is_set():
                self._unclean.set()
            if self._bell:
                self._bell.ring()

    def _beat(self) -> None:
        """The heart: renews leases and passes cancellations on, for as long as tasks run."""
        while not (self._stopping.is_set() and not self._active):
            self._busy.wait()
            with self._guard:
                active = dict(self._active)
                if not active and not self._stopping.is_set():
                    self._busy.clear()
            if self._stopping.is_set():
                self._tell_all()
            try:
                self._look_after(active)
            except DatabaseError as error:
                self._note_outage(error)
            except Exception:
                logger.exception("Node %s: its heart goes on", self._node.name)
            time.sleep(BEAT)
        connections.close_all()

    def _look_after(self, active: dict[Claim, Signals]) -> None:
        if not active:
            return
        wanted = queue.cancel_requested(claims=active)
        now = time.monotonic()
        third = self._lease.total_seconds() / 3
        self._renew({claim: signals for claim, signals in active.items() if now > signals.renewed_at + third})
        for claim, signals in active.items():
            if claim.token in wanted:
                signals.cancel.set()

    def _renew(self, due: dict[Claim, Signals]) -> None:
        if not due:
            return
        now = time.monotonic()
        held = queue.renew(claims=due, lease=self._lease)
        for claim, signals in due.items():
            signals.renewed_at = now
            if claim.token not in held:
                signals.lost.set()

    def _tell_all(self) -> None:
        with self._guard:
            for signals in self._active.values():
                (signals.leave if self._on_stop == "leave" else signals.stop).set()

    def _residents(self) -> list[Resident]:
        return self._node.sandbox.residents(labels=self._node.labels())

    def _adopt(self, pool: ThreadPoolExecutor) -> None:
        """Take over what a predecessor left on this node: nobody else can, because of the lock."""
        residents = self._residents()
        present = {key for resident in residents if (key := _key(resident))}
        for claim in queue.lost(node=self._node.name, present=present):
            text = f"The container was gone when node {self._node.name} came back."
            queue.release(claim=claim, reason="platform", text=text)
        for task, attempt in present - self._working_on():
            adopted = queue.adopt(task=task, attempt=attempt, node=self._node.name, lease=self._lease)
            if adopted is not None:
                logger.info("task %s, attempt %s: adopted", task, attempt)
                self._submit(pool, adopted, adopted=True)
        self._remove_orphans(residents)

    def _working_on(self) -> set[tuple[UUID, int]]:
        with self._guard:
            return {(claim.task, claim.attempt) for claim in self._active}

    def _remove_orphans(self, residents: list[Resident]) -> None:
        """Remove the containers and workspaces whose attempt does not run according to the rows."""
        for resident in residents:
            key = _key(resident)
            if key and Task.objects.filter(pk=key[0], attempt=key[1], state=State.RUNNING).exists():
                continue
            if key in self._working_on():
                continue
            logger.info("%s: nobody needs it, removed", resident.name)
            try:
                self._node.sandbox.stop(resident.name, grace=0)
                self._node.sandbox.remove(resident.name)
            except EngineUnavailable:
                raise
            except SandboxError as error:
                # The others are, all the same.
                logger.warning("%s: not removed yet: %s", resident.name, error)
            if key:
                tidy(task=key[0], attempt=key[1])


def _key(resident: Resident) -> tuple[UUID, int] | None:
    try:
        return UUID(resident.labels["gridapps.task"]), int(resident.labels["gridapps.attempt"])
    except (KeyError, ValueError):
        return None
