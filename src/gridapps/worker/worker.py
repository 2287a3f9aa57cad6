"""The worker of a node: claims tasks, runs each in a thread, renews leases, and puts right what it finds.

It needs nobody: no broker, no message that must not be lost. When it starts it adopts the containers of its
predecessor, gives back the attempts that have none, and removes the containers that nobody needs.
"""

import fcntl
import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO
from uuid import UUID, uuid4

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections

from gridapps import context
from gridapps.exports import stored_files
from gridapps.runs import nodes, queue, retention
from gridapps.runs.bell import Bell
from gridapps.runs.capacity import Capacity
from gridapps.runs.errors import NodeTaken
from gridapps.runs.models import Task
from gridapps.runs.nodes import Speaker
from gridapps.runs.queue import Claim
from gridapps.runs.states import TERMINAL, State
from gridapps.runs.store import clear_workshop, tidy
from gridapps.sandbox.protocol import Resident, SandboxError
from gridapps.worker.clearing import Clearing
from gridapps.worker.execution import Execution, Node, Signals

logger = logging.getLogger(__name__)

BEAT = 1.0  # seconds between two looks at the rows of running tasks
SLEEP = 5.0  # seconds; poll interval of the queue
RECONCILE = 30.0  # seconds between two comparisons of rows and containers
PULSE = 5.0  # seconds between two reports of a node that it is alive
SWEEP = 3600.0  # seconds between two looks for outputs that the policy keeps no longer
RETRY = 5.0  # seconds between two sweeps for outputs that users removed
EXPIRE = 5.0  # seconds between two looks for leases that ran out
WATCH = 1.0  # seconds of one wait for the engine to go away; a stop takes as long
CLEAR = 10.0  # seconds that a worker which stops waits for removals under way


class Worker:
    """One per node: a lock file sees to that on one machine, the node's row among machines."""

    def __init__(
        self,
        *,
        node: Node,
        slots: int,
        lease: timedelta,
        on_stop: str,
        lock: Path,
        sweep: Callable[[], Iterable[str]],
        capacity: Capacity | None = None,
    ) -> None:
        """`sweep` removes the files of removed outputs, and yields their keys."""
        self._node = node
        self._slots = slots
        self._capacity = capacity or Capacity.of_machine(lock.parent, slots=slots)
        self._session = uuid4()
        self._speaker: Speaker | None = None  # once the node's row is this worker's
        self._pulse = min(PULSE, lease.total_seconds() / 4)
        self._reported = 0.0
        self._engine: tuple[str, float | None] = ("", None)  # version, and seconds until it answered
        self._taken: NodeTaken | None = None
        self._given_up: list[str] = []  # containers, when the node was taken
        self._lease = lease
        self._on_stop = on_stop
        self._lock = lock
        self._sweep = sweep
        self._stopping = threading.Event()
        self._active: dict[Claim, Signals] = {}
        self._guard = threading.Lock()
        self._busy = threading.Event()  # tasks run, or the worker stops: the heart has something to do
        self._unclean = threading.Event()  # something waits to be removed: compare soon
        self._changed = threading.Event()  # the engine went away or came back: look at everything soon
        self._clearing = Clearing(node.sandbox)
        self._bell: Bell | None = None
        self._swept = -SWEEP
        # Since when the database answers: until a lease after it, silence is no sign of death.
        self._answers_since = time.monotonic()

    def stop(self) -> None:
        """Ask the worker to stop; `run` returns when every thread has ended. Safe in a signal handler."""
        self._stopping.set()
        self._busy.set()
        if self._bell:
            self._bell.ring()

    def run(self) -> None:
        """Work until `stop`. Raises NodeTaken, then with no container left that it was working on."""
        with self._lock.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise NodeTaken(f"A worker of node {self._node.name!r} runs already.") from None
            self._place = _place(lock)
            clear_workshop()
            heart = threading.Thread(target=self._beat, name="heart")
            heart.start()
            watch = threading.Thread(target=self._watch_engine, name="watch")
            watch.start()
            # More threads than slots: what a predecessor left running is adopted, however much it is.
            with Bell(self._node.name) as self._bell, ThreadPoolExecutor(1024, "task") as pool:
                self._loop(pool, self._bell)
                self._tell_all()
            heart.join()
            watch.join()
            self._clearing.close(timeout=CLEAR)
            if self._taken is None:
                self._sign_off()
            connections.close_all()
            if self._taken is not None:
                self._remove_given_up()
                raise self._taken

    def _sign_off(self) -> None:
        """Free the node for the next worker, unless containers were left for a worker of this place."""
        if self._speaker and self._on_stop == "requeue":
            with suppress(DatabaseError):
                nodes.sign_off(self._speaker)

    def _loop(self, pool: ThreadPoolExecutor, bell: Bell) -> None:
        adopted = False
        compared = expired = examined = 0.0
        while not self._stopping.is_set():
            try:
                if self._changed.is_set():
                    self._changed.clear()
                    examined = compared = 0.0
                if time.monotonic() - examined > RECONCILE:
                    self._examine()
                    examined = time.monotonic()
                if not adopted:
                    self._register()
                    self._adopt(pool)
                    adopted = True
                    compared = time.monotonic()
                if time.monotonic() - expired > EXPIRE:
                    self._expire()
                    expired = time.monotonic()
                due = time.monotonic() - compared > RECONCILE or self._clearing.due()
                if due or self._unclean.is_set():
                    self._remove_orphans(self._residents())
                    compared = time.monotonic()
                    self._unclean.clear()
                if self._must_sweep():
                    self._swept = time.monotonic()
                    pool.submit(_sweep_outputs, self._sweep)
                if self._node.images.due():
                    pool.submit(self._trim_images)
                self._fill(pool)
            except DatabaseError as error:
                self._note_outage(error)
            except NodeTaken as error:
                self._yield_to(error)
            except SandboxError as error:
                logger.warning("Node %s cannot work now: %s", self._node.name, error)
            except Exception:
                # A worker that ends here would wait for its tasks and claim no other for as long as they run.
                logger.exception("Node %s: tried again in %s s", self._node.name, SLEEP)
            bell.wait(SLEEP)

    def _must_sweep(self) -> bool:
        """When outputs were removed, unless the last try to remove their files was just now."""
        since = time.monotonic() - self._swept
        return since > SWEEP or (since > RETRY and retention.has_files_left())

    def _trim_images(self) -> None:
        try:
            self._node.images.trim()
        except Exception as error:
            logger.warning("Node %s: its images were not trimmed: %s", self._node.name, error)

    def _register(self) -> None:
        """Become the worker that speaks for the node. Raises NodeTaken."""
        speaker = Speaker(
            node=self._node.name,
            session=self._session,
            place=self._place,
            capacity=self._capacity,
            lease=self._lease,
        )
        nodes.register(speaker)
        self._speaker = speaker

    def _watch_engine(self) -> None:
        """Notice at once when the engine ends, or another takes its place."""
        while not self._stopping.is_set():
            try:
                changed = self._node.sandbox.engine_changed(timeout=WATCH)
            except SandboxError as error:
                logger.warning("Node %s cannot watch its engine: %s", self._node.name, error)
                self._stopping.wait(WATCH)
                continue
            if changed:
                logger.warning("Node %s: its engine went away or came back", self._node.name)
                self._changed.set()
                if self._bell:
                    self._bell.ring()

    def _examine(self) -> None:
        """Note how quickly the engine answers, and which one it is."""
        began = time.monotonic()
        try:
            version = self._node.sandbox.version()
        except SandboxError:
            self._engine = (self._engine[0], None)
        else:
            self._engine = (version, time.monotonic() - began)

    def _report(self) -> None:
        if self._speaker and time.monotonic() - self._reported >= self._pulse:
            version, latency = self._engine
            nodes.report(
                self._speaker,
                engine_version=version,
                engine_latency=latency,
                stuck=self._clearing.stuck(),
            )
            self._reported = time.monotonic()

    def _yield_to(self, error: NodeTaken) -> None:
        """Another worker speaks for the node: whatever runs here is given up, and this worker ends."""
        logger.error("%s", error)
        self._taken = error
        with self._guard:
            for claim, signals in self._active.items():
                self._given_up.append(self._node.container(claim))
                signals.lost.set()
        self.stop()

    def _remove_given_up(self) -> None:
        """Remove containers that no worker adopts here: the node's worker is on another machine now."""
        for name in self._given_up:
            try:
                self._node.sandbox.stop(name, grace=0)
                self._node.sandbox.remove(name)
            except SandboxError as error:
                logger.warning("%s: not removed: %s", name, error)

    def _expire(self) -> None:
        """Give back what silent workers hold. Nobody is silent who had no time to renew a lease: after this
        worker's start, and after the database was away, a whole lease passes first."""
        if time.monotonic() - self._answers_since > self._lease.total_seconds():
            with self._guard:
                mine = dict(self._active)
            # The clock may have jumped, or this process been stopped for a while: it is alive, after all.
            self._renew(mine)
            for task, attempt, state in queue.expire():
                if state in TERMINAL:  # no later attempt removes what the earlier ones left
                    tidy(task=task, attempt=attempt)

    def _note_outage(self, error: Exception) -> None:
        self._answers_since = time.monotonic()
        logger.warning("The database does not answer: %s", error)
        close_old_connections()

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        """Claim until every slot is taken, the queue is empty, or a task found the node unfit."""
        while not self._stopping.is_set() and len(self._active) < self._slots and not self._waiting():
            claim = queue.claim(node=self._node.name, lease=self._lease, session=self._session)
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
        ids = {"run": claim.run, "task": claim.task, "attempt": claim.attempt, "node": self._node.name}
        try:
            with context.bound(**ids):
                self._carry_out(claim, signals, adopted)
        finally:
            connections.close_all()
            with self._guard:
                del self._active[claim]
            if signals.unclean.is_set():
                self._unclean.set()
            if self._bell:
                self._bell.ring()

    def _carry_out(self, claim: Claim, signals: Signals, adopted: bool) -> None:
        logger.info("Attempt %s of task %s begins", claim.attempt, claim.task)
        try:
            Execution(claim=claim, node=self._node, signals=signals).run(adopted=adopted)
        except Exception:
            # The lease runs out, and the reconciler gives the task back.
            logger.exception("task %s: its thread died", claim.task)
        else:
            logger.info("Attempt %s of task %s is over", claim.attempt, claim.task)

    def _beat(self) -> None:
        """The heart: says that the node is alive; renews leases and passes cancellations on."""
        while not (self._stopping.is_set() and not self._active):
            self._busy.wait(self._pulse)
            with self._guard:
                active = dict(self._active)
                if not active and not self._stopping.is_set():
                    self._busy.clear()
            if self._stopping.is_set():
                self._tell_all()
            try:
                self._look_after(active)
                self._report()
            except DatabaseError as error:
                self._note_outage(error)
            except NodeTaken as error:
                self._yield_to(error)
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
            tidy(task=claim.task, attempt=claim.attempt)
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
            self._clearing.remove(resident.name, then=partial(_tidy_attempt, key))
        self._clearing.forget_others({resident.name for resident in residents})
        with self._guard:
            active = {self._node.container(claim) for claim in self._active}
        stored_files.release_others(active | {resident.name for resident in residents})


def _place(lock: IO[str]) -> str:
    """Tells this machine and data directory from every other, also from a copy of the directory elsewhere."""
    lock.seek(0)
    key = lock.read().strip()
    if not key:
        key = uuid4().hex
        lock.write(key)
        lock.flush()
    machine = Path("/etc/machine-id")
    known = (key, socket.gethostname(), machine.read_text() if machine.exists() else "")
    return hashlib.sha256("\n".join(known).encode()).hexdigest()


def _tidy_attempt(key: tuple[UUID, int] | None) -> None:
    if key is not None:
        tidy(task=key[0], attempt=key[1])


def _sweep_outputs(sweep: Callable[[], Iterable[str]]) -> None:
    """There may be very many: the worker does not wait for it."""
    try:
        for key in sweep():
            logger.info("%s: removed", key)
    except Exception:
        logger.exception("Outputs that were removed are not gone yet")
    finally:
        connections.close_all()


def _key(resident: Resident) -> tuple[UUID, int] | None:
    try:
        return UUID(resident.labels["gridapps.task"]), int(resident.labels["gridapps.attempt"])
    except (KeyError, ValueError):
        return None
