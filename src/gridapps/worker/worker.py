"""The worker of a node: claims tasks, runs each in a thread, renews leases, and reconciles rows and
containers.

It needs no broker, and no message whose loss would matter. When it starts it adopts the containers of
its predecessor, gives back attempts without a container, and removes containers without an attempt.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

from django.db import Error as DatabaseError
from django.db import connections

from gridapps.audit import context
from gridapps.runs import queue, retention
from gridapps.runs.capacity import Capacity
from gridapps.runs.errors import NodeTaken
from gridapps.runs.queue import Claim
from gridapps.runs.store import clear_staging
from gridapps.runs.worker_bell import WorkerBell
from gridapps.sandbox.protocol import SandboxError
from gridapps.worker import registration
from gridapps.worker.attempt_signals import Signals
from gridapps.worker.clearing import Clearing
from gridapps.worker.disk_watch import FloorWatch
from gridapps.worker.engine_watch import EngineWatch
from gridapps.worker.execution import Execution
from gridapps.worker.leases import LeaseKeeper
from gridapps.worker.local_node import LocalNode
from gridapps.worker.periodic import Periodic
from gridapps.worker.reconciler import Reconciler
from gridapps.worker.registration import Registration
from gridapps.worker.running import RunningAttempts

logger = logging.getLogger(__name__)

BEAT = 1.0  # seconds between two checks of leases and cancellations
SLEEP = 5.0  # seconds; poll interval of the queue
RECONCILE = 30.0  # seconds between two comparisons of rows and containers
PULSE = 5.0  # seconds between two reports that the node is alive
SWEEP = 3600.0  # seconds between two searches for outputs that the policy no longer keeps
RETRY = 5.0  # seconds between two removals of outputs that users removed
EXPIRE = 5.0  # seconds between two searches for expired leases
CLEAR = 10.0  # seconds for which a worker that stops waits for removals
THREADS = 1024  # more than slots, because all attempts of a predecessor are adopted


class Worker:
    """The one worker of a node: a lock file excludes others on the machine, the node's row all others."""

    def __init__(
        self,
        *,
        node: LocalNode,
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
        self._lease = lease
        self._on_stop = on_stop
        self._lock = lock
        self._sweep = sweep
        self._stopping = threading.Event()
        self._bell: WorkerBell | None = None
        self._taken: NodeTaken | None = None
        self._given_up: list[str] = []  # containers, when another worker has taken the node
        self._attempts = RunningAttempts()
        self._clearing = Clearing(node.sandbox)
        self._engine = EngineWatch(node.sandbox)
        self._disk = FloorWatch()
        self._leases = LeaseKeeper(self._attempts, lease=lease)
        self._registration = Registration(
            node=node.name, capacity=capacity or Capacity.of_machine(lock.parent, slots=slots), lease=lease
        )
        self._reconciler = Reconciler(node, self._attempts, self._clearing, lease=lease)
        self._examine = Periodic(self._engine.examine, every=RECONCILE)
        self._reconcile = Periodic(self._reconciler.remove_orphans, every=RECONCILE, early=self._clearing.due)
        self._pulse = min(PULSE, lease.total_seconds() / 4)
        self._report = Periodic(self._report_alive, every=self._pulse)

    def stop(self) -> None:
        """Ask the worker to stop; `run` returns when every thread has ended. Safe in a signal handler."""
        self._stopping.set()
        self._attempts.close()
        self._ring()

    def run(self) -> None:
        """Work until `stop`. Raises NodeTaken, after it has removed the containers it was working on."""
        with registration.locked(self._lock, node=self._node.name) as place:
            clear_staging()
            threads = [
                threading.Thread(target=self._beat, name="heart"),
                threading.Thread(target=self._watch_engine, name="watch"),
            ]
            for thread in threads:
                thread.start()
            with WorkerBell(self._node.name) as self._bell, ThreadPoolExecutor(THREADS, "task") as pool:
                self._loop(self._jobs(pool, place), self._bell)
                self._signal_stop()
            for thread in threads:
                thread.join()
            self._clearing.close(timeout=CLEAR)
            # Containers that are left running are for a worker in this place, so the node stays taken.
            if self._taken is None and self._on_stop == "requeue":
                self._registration.sign_off()
            connections.close_all()
            if self._taken is not None:
                self._remove_given_up()
                raise self._taken

    def _jobs(self, pool: ThreadPoolExecutor, place: str) -> list[Periodic]:
        """What the loop does, in this order. A job that fails delays those after it to the next turn."""
        return [
            self._examine,
            Periodic(partial(self._take_over, pool, place), every=math.inf),
            Periodic(self._leases.expire, every=EXPIRE),
            self._reconcile,
            Periodic(
                partial(self._start_sweep, pool),
                every=SWEEP,
                early=retention.has_files_left,
                pause=RETRY,
            ),
            Periodic(partial(self._start_trim, pool), every=0),
            Periodic(partial(self._fill, pool), every=0),
        ]

    def _take_over(self, pool: ThreadPoolExecutor, place: str) -> None:
        """Become the worker of the node, and adopt the attempts of the previous one."""
        self._registration.register(place)
        self._report_alive()
        self._reconciler.adopt(partial(self._submit, pool, adopted=True))

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        """Claim tasks for all free slots."""
        # Here and not in the thread that reports: a storage on the network may not answer for a while.
        if self._disk.is_short():
            return
        while claim := self._claim():
            self._submit(pool, claim, adopted=False)

    def _start_trim(self, pool: ThreadPoolExecutor) -> None:
        if self._node.images.due():
            pool.submit(self._trim_images)

    def _start_sweep(self, pool: ThreadPoolExecutor) -> None:
        pool.submit(_sweep_outputs, self._sweep)

    def _submit(self, pool: ThreadPoolExecutor, claim: Claim, *, adopted: bool) -> None:
        pool.submit(self._execute, claim, self._attempts.add(claim), adopted)

    def _loop(self, jobs: list[Periodic], bell: WorkerBell) -> None:
        while not self._stopping.is_set():
            try:
                for job in jobs:
                    job.run_if_due()
            except DatabaseError as error:
                self._leases.note_outage(error)
            except NodeTaken as error:
                self._yield_to(error)
            except SandboxError as error:
                logger.warning("Node %s cannot work now: %s", self._node.name, error)
            except Exception:
                # Otherwise the worker would claim nothing more, and end only after all its tasks.
                logger.exception("Node %s: retrying in %s s", self._node.name, SLEEP)
            bell.wait(SLEEP)

    def _claim(self) -> Claim | None:
        """The next task, unless all slots are taken or a running task has found the node unfit."""
        if self._stopping.is_set() or len(self._attempts) >= self._slots or self._attempts.any_waiting():
            return None
        return queue.claim(node=self._node.name, lease=self._lease, session=self._registration.session)

    def _execute(self, claim: Claim, signals: Signals, adopted: bool) -> None:
        ids = {"run": claim.run, "task": claim.task, "attempt": claim.attempt, "node": self._node.name}
        try:
            with context.bound(**ids):
                self._carry_out(claim, signals, adopted)
        finally:
            connections.close_all()
            self._attempts.remove(claim)
            if signals.unclean.is_set():
                self._reconcile.hasten()
            self._ring()

    def _carry_out(self, claim: Claim, signals: Signals, adopted: bool) -> None:
        logger.info("Attempt %s of task %s begins", claim.attempt, claim.task)
        try:
            Execution(claim=claim, node=self._node, signals=signals).run(adopted=adopted)
        except Exception:
            # Its lease expires, and then the task is given back.
            logger.exception("Attempt %s of task %s failed in the worker", claim.attempt, claim.task)
        else:
            logger.info("Attempt %s of task %s has ended", claim.attempt, claim.task)

    def _beat(self) -> None:
        """The thread that reports that the node is alive, renews leases and passes cancellations on."""
        while not (self._stopping.is_set() and not self._attempts):
            self._attempts.wait_for_any(self._pulse)
            if self._stopping.is_set():
                self._signal_stop()
            self._beat_once()
            time.sleep(BEAT)
        connections.close_all()

    def _beat_once(self) -> None:
        try:
            self._leases.look_after()
            self._report.run_if_due()
        except DatabaseError as error:
            self._leases.note_outage(error)
        except NodeTaken as error:
            self._yield_to(error)
        except Exception:
            logger.exception("Node %s: one beat failed", self._node.name)

    def _report_alive(self) -> None:
        self._registration.report(
            engine_version=self._engine.version,
            engine_latency=self._engine.latency,
            stuck=self._clearing.stuck(),
            free=self._disk.last,
        )

    def _watch_engine(self) -> None:
        def changed() -> None:
            self._examine.hasten()
            self._reconcile.hasten()
            self._ring()

        self._engine.watch(changed=changed, until=self._stopping)

    def _signal_stop(self) -> None:
        for signals in self._attempts.all().values():
            (signals.leave if self._on_stop == "leave" else signals.stop).set()

    def _yield_to(self, error: NodeTaken) -> None:
        """End this worker and give up its attempts, because another one acts for the node."""
        logger.error("%s", error)
        self._taken = error
        for claim, signals in self._attempts.all().items():
            self._given_up.append(self._node.container(claim))
            signals.lost.set()
        self.stop()

    def _remove_given_up(self) -> None:
        """Remove the containers that no worker adopts: the other worker is on another machine."""
        for name in self._given_up:
            try:
                self._node.sandbox.stop(name, grace=0)
                self._node.sandbox.remove(name)
            except SandboxError as error:
                logger.warning("%s: not removed: %s", name, error)

    def _trim_images(self) -> None:
        try:
            self._node.images.trim()
        except Exception as error:
            logger.warning("Node %s: its images were not trimmed: %s", self._node.name, error)

    def _ring(self) -> None:
        """Wake the loop."""
        if self._bell:
            self._bell.ring()


def _sweep_outputs(sweep: Callable[[], Iterable[str]]) -> None:
    """In a thread of its own, because there may be very many."""
    try:
        for key in sweep():
            logger.info("%s: removed", key)
    except Exception:
        logger.exception("Files of removed outputs could not be removed yet")
    finally:
        connections.close_all()
