"""One attempt of a task, from its claim to its end: pull, start (or adopt), watch, judge, collect, finish.

Whatever happens here ends in exactly one of: `finish` (the program ended, for good or bad), `release` (the
platform could not, somebody tries again), or nothing at all: the lease is lost, or the worker leaves its
containers to the next one.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from gridapps.exports import stored_files
from gridapps.pushes import images
from gridapps.registry import queries
from gridapps.registry.errors import NotAllowed
from gridapps.runs import queue, store
from gridapps.runs.errors import LostLease
from gridapps.worker.log_recording import LogRecorder
from gridapps.runs.models import Output, Run, Task
from gridapps.runs.queue import Claim
from gridapps.runs.reasons import NOT_ALLOWED, RELEASED
from gridapps.runs.states import State
from gridapps.sandbox.ending import Verdict, judge
from gridapps.sandbox.protocol import (
    ContainerStuck,
    Ended,
    ImageGone,
    ImageUnavailable,
    Launch,
    Limits,
    NameTaken,
    NodeRefused,
    Sandbox,
    SandboxError,
)
from gridapps.storage.interface import StorageUnavailable
from gridapps.worker import collection
from gridapps.worker.node_images import NodeImages
from gridapps.worker.patience import Patience, persist

logger = logging.getLogger(__name__)
T = TypeVar("T")

INPUT_NAME = "pointcloud.laz"  # for LAS, LAZ and COPC alike: readers go by the header, not the ending
LOOK = 0.5  # seconds between two looks at log, progress and signals while a container runs
LOG_SLACK = 1024**2  # bytes beyond a log's limit that are still read: a line about what is left out ends it
GRACE = 5.0  # seconds between TERM and KILL
UNFIT = 60.0  # seconds in which a node that the registry refuses claims nothing
PAUSE = 2.0  # seconds before a task that the platform failed is given back; then four times as long


@dataclass(kw_only=True)
class Signals:
    """What passes between the worker and a running attempt."""

    cancel: Event = field(default_factory=Event)
    lost: Event = field(default_factory=Event)  # the lease is somebody else's now
    stop: Event = field(default_factory=Event)  # the worker stops: give the task back
    leave: Event = field(default_factory=Event)  # the worker stops: leave the container for the next one
    unclean: Event = field(default_factory=Event)  # from the attempt: its container could not be removed
    waiting: Event = field(default_factory=Event)  # from the attempt: engine or disk are away, claim no more
    renewed_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a worker is on: its name, its engine with the images there, and how its containers are named and
    labelled."""

    name: str
    instance: str
    sandbox: Sandbox
    images: NodeImages
    max_log: int

    def labels(self) -> dict[str, str]:
        return {"gridapps.instance": self.instance, "gridapps.node": self.name}

    def container(self, claim: Claim) -> str:
        return f"{claim.task.hex}-{claim.attempt}"


class _Left(Exception):
    """The worker stops and leaves the container running."""


class _GivenBack(Exception):
    """The task goes back to the queue. The message says why."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _EndedEarly(Exception):
    """The task ends without a container having run."""

    def __init__(self, state: State, reason: str, text: str) -> None:
        super().__init__(text)
        self.state = state
        self.reason = reason


class Execution:
    """One claim on one node."""

    def __init__(self, *, claim: Claim, node: Node, signals: Signals) -> None:
        self.claim = claim
        self.node = node
        self.signals = signals
        self.name = node.container(claim)
        self._patience = Patience(
            attempt=self.name,
            node=node.name,
            waiting=signals.waiting,
            note=lambda text: self._note(fraction=None, message=text),
        )
        tasks = Task.objects.select_related("run__release__app", "exportfile")
        self.task = persist(lambda: tasks.get(pk=claim.task))
        run = self.task.run
        self.limits = Limits(cpus=run.cpus, memory=run.memory, disk=run.disk, log=min(node.max_log, run.disk))
        self._adopted = False
        self._canceled = False  # the container was ended because its user said so
        self._unfit = False  # the registry refuses this node
        self._timed_out = False  # it was ended because its time was up
        # Until when the program may run, on a clock that nobody sets: that of the rows may jump.
        self._time_up = math.inf
        if self.task.deadline is not None:
            self._limit_time((self.task.deadline - datetime.now(UTC)).total_seconds())
        self._place = store.AttemptFiles(claim.run, claim.index, claim.attempt)

    def run(self, *, adopted: bool) -> None:
        """Carry the attempt to its end."""
        self._adopted = adopted
        try:
            self._run()
        except _Left:
            return
        except LostLease:
            logger.warning("%s: lost its lease", self.name)
            if self._goes_on_elsewhere():
                return
        self._clean()
        if self._unfit:
            self._sit_out()

    def _goes_on_elsewhere(self) -> bool:
        """Whether this very attempt was adopted: then its container and its files are not ours any more."""
        same = Task.objects.filter(pk=self.claim.task, attempt=self.claim.attempt, state=State.RUNNING)
        return persist(same.exists)

    def _run(self) -> None:
        try:
            self._patiently(self._place.make)
            if not self._adopted:
                self._start()
            ended = self._watch()
            verdict = judge(
                ended,
                canceled=self._canceled,
                past_deadline=self._past_deadline(ended),
                limits=self.limits,
            )
            if verdict.reason == "platform":
                raise _GivenBack("platform", verdict.text)
            self._finish(ended, verdict)
        except _EndedEarly as end:
            self._end(state=end.state, reason=end.reason, text=str(end))
        except _GivenBack as error:
            self._give_back(error.reason, str(error))
        except (_Left, LostLease):
            raise
        except ContainerStuck as error:
            self._end_stuck(error)
        except SandboxError as error:
            logger.warning("%s failed: %s", self.name, error)
            self._give_back("platform", str(error))
        except Exception as error:
            logger.exception("%s failed", self.name)
            text = f"{type(error).__name__} on node {self.node.name}; its log says more."
            self._give_back("platform", text)

    def _end_stuck(self, error: ContainerStuck) -> None:
        """The engine holds the container, and the attempt goes no further here. Nothing of it will run."""
        text = f"Node {self.node.name} could not remove the container yet. {error}"
        if self.signals.cancel.is_set():
            self._end(state=State.CANCELED, reason="canceled", text=f"{self._why_canceled()} {text}")
        elif self._timed_out:
            self._end(state=State.FAILURE, reason="out-of-time", text=f"Out of time. {text}")
        else:
            self._give_back("platform", text)

    def _give_back(self, reason: str, text: str) -> None:
        """Release the task; after a failure of the platform not at once, because what failed it may be on its
        way back, and the attempts are few."""
        if reason == "platform" and self.claim.attempt < queue.MAX_ATTEMPTS:
            self._note(fraction=None, message=f"Tried again soon: {text}")
            self._pause(PAUSE * 4 ** (self.claim.attempt - 1))
        self._keep_log()
        persist(lambda: queue.release(claim=self.claim, reason=reason, text=text))

    def _keep_log(self) -> None:
        """If the storage is away, what was sent of it while the program ran is the log."""
        try:
            self._place.publish_log()
        except (StorageUnavailable, OSError) as error:
            logger.warning("%s: its log is not kept whole: %s", self.name, error)

    def _pause(self, seconds: float) -> None:
        """Sleep, but return early on cancel, stop or lost lease."""
        signals = self.signals
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(each.is_set() for each in (signals.cancel, signals.stop, signals.leave, signals.lost)):
                return
            time.sleep(min(LOOK, seconds))

    def _start(self) -> None:
        task, sandbox, images_here = self.task, self.node.sandbox, self.node.images
        try:
            source = self._patiently(lambda: stored_files.provide(task.exportfile, by=self.name, heed=self._heed))
        except stored_files.ExportFileChanged as error:
            raise _EndedEarly(State.FAILURE, "input-unreadable", str(error)) from None
        pull = self._pull()
        image = pull.reference
        try:
            with images_here.lease(image):
                self._patiently(lambda: images_here.pull(image, token=pull.token()), alone=True)
                self._pull()  # again, because a pull may take long
                deadline = task.deadline = datetime.now(UTC) + timedelta(seconds=task.run.time)
                self._limit_time(task.run.time)
                persist(lambda: queue.starting(claim=self.claim, deadline=deadline))
                self._patiently(lambda: sandbox.start(self._launch(image, source)))
        except NodeRefused as error:
            self._unfit = True
            raise _GivenBack(RELEASED, f"Node {self.node.name} cannot pull images. {error}") from None
        except NameTaken:
            logger.info("%s runs already: adopted", self.name)
        except ImageGone as error:  # somebody else has removed it
            raise _GivenBack("platform", str(error)) from error
        except ImageUnavailable as error:
            raise _EndedEarly(State.FAILURE, "image-refused", str(error)) from error

    def _sit_out(self) -> None:
        """Keep the node from claiming for a while: the next task would find it as unfit."""
        self.signals.waiting.set()
        end = time.monotonic() + UNFIT
        while time.monotonic() < end and not (self.signals.stop.is_set() or self.signals.leave.is_set()):
            time.sleep(LOOK)

    def _run_now(self) -> Run:
        """The run with its owner and release, as the rows are now."""
        runs = Run.objects.select_related("owner", "release__app")
        return persist(lambda: runs.get(pk=self.claim.run))

    def _why_canceled(self) -> str:
        return self._run_now().cancel_text or queue.CANCELED

    def _pull(self) -> images.ImagePull:
        """Where the image comes from, if the run's owner may still run it."""
        run = self._run_now()
        try:
            return images.pull_of(run.release, persist(lambda: queries.source_for(run.owner, run.release)))
        except NotAllowed as error:
            raise _EndedEarly(State.FAILURE, NOT_ALLOWED, str(error)) from None

    def _launch(self, image: str, source: Path) -> Launch:
        task = self.task
        assert task.deadline is not None
        labels = {
            "gridapps.run": str(self.claim.run),
            "gridapps.task": str(task.id),
            "gridapps.attempt": str(self.claim.attempt),
        }
        return Launch(
            name=self.name,
            image=image,
            arguments=json.dumps(task.run.arguments).encode(),
            input=source,
            input_name=INPUT_NAME,
            run=str(task.run_id),
            task=str(task.id),
            limits=self.limits,
            deadline=task.deadline,
            labels=self.node.labels() | labels,
        )

    def _watch(self) -> Ended:
        """Follow the container until it has ended."""
        sandbox = self.node.sandbox
        log = LogRecorder(
            log=lambda: sandbox.log(self.name), files=self._place, limit=LOG_SLACK + self.limits.log
        )
        while True:
            try:
                ended = self._patiently(lambda: sandbox.wait(self.name, timeout=LOOK), heed=False)
            except ContainerStuck as error:  # until it is canceled, or its time is up
                self._note(fraction=None, message=str(error))
                ended = None
            except KeyError:
                text = f"The container vanished from node {self.node.name}."
                raise _GivenBack("platform", text) from None
            if (latest := self._patiently(log.record, heed=False)) is not None:
                self._note(fraction=latest.fraction, message=latest.message)
            if ended is not None:
                return ended
            if self.signals.cancel.is_set() or time.monotonic() >= self._time_up:
                self._canceled = self.signals.cancel.is_set()
                self._timed_out = not self._canceled
                self._patiently(lambda: sandbox.stop(self.name, grace=GRACE), heed=False)
            else:
                self._heed()

    def _heed(self) -> None:
        """Raise what the signals demand, if they demand that this attempt goes no further here."""
        if self.signals.lost.is_set():
            raise LostLease(str(self.claim.task))
        if self.signals.leave.is_set():
            raise _Left
        if self.signals.stop.is_set():
            raise _GivenBack(RELEASED, f"Node {self.node.name} was stopped.")
        if self.signals.cancel.is_set():
            raise _EndedEarly(State.CANCELED, "canceled", self._why_canceled())

    def _patiently(self, action: Callable[[], T], *, heed: bool = True, alone: bool = False) -> T:
        """See `Patience`. With `heed` false a cancellation does not end the wait, because a container may be
        running."""
        return self._patience(action, heed=self._heed if heed else self._heed_others, alone=alone)

    def _heed_others(self) -> None:
        if not self.signals.cancel.is_set():
            self._heed()

    def _note(self, *, fraction: float | None, message: str) -> None:
        persist(lambda: queue.progress(claim=self.claim, fraction=fraction, message=message))

    def _limit_time(self, seconds: float) -> None:
        self._time_up = time.monotonic() + min(max(seconds, 0), self.task.run.time)

    def _past_deadline(self, ended: Ended) -> bool:
        """Whether its time was up. What ended by itself did so in time, whatever the clock says meanwhile;
        of a container that ended while nobody looked there is nothing but the clock."""
        if self._timed_out:
            return ended.interrupted
        deadline = self.task.deadline
        return self._adopted and deadline is not None and ended.ended_at >= deadline

    def _finish(self, ended: Ended, verdict: Verdict) -> None:
        collected = self._patiently(
            lambda: collection.collect(
                self.node.sandbox.outputs(self.name), self._place.files, max_bytes=self.task.run.disk
            ),
            heed=False,
        )
        self._patiently(lambda: self._place.publish(collected.outputs), heed=False)
        self._end(
            state=State(verdict.state),
            reason=verdict.reason,
            text=self._remove_canceled() if verdict.state == "CANCELED" else verdict.text,
            exit_code=None if ended.not_started else ended.exit_code,
            usage=asdict(ended.usage),
            outputs=[
                Output(
                    task=self.task,
                    path=file.path,
                    size=file.size,
                    sha256=file.sha256,
                    media_type=file.media_type,
                )
                for file in collected.outputs
            ],
            left_out=[asdict(item) for item in collected.left_out],
        )

    def _remove_canceled(self) -> str:
        """Remove the container of a canceled attempt; the sentence for the user. When the run says that it is
        canceled, the container is gone, or the sentence says that the node still holds it."""
        text = self._why_canceled()
        try:
            self._patiently(lambda: self.node.sandbox.remove(self.name), heed=False)
        except ContainerStuck as error:
            return f"{text} Node {self.node.name} could not remove the container yet. {error}"
        return text

    def _end(self, **end: Any) -> None:
        persist(lambda: queue.finish(claim=self.claim, **end))
        self._place.remove_earlier()

    def _clean(self) -> None:
        """Remove container, workspace and what the attempt left in the store.

        A container that cannot be removed now is found by the reconciler. The store is tidied all the same:
        an engine that comes back without its containers leaves the reconciler nothing to find.
        """
        for step in (self._remove_container, self._tidy):
            try:
                step()
            except Exception:
                logger.exception("%s: not removed yet", self.name)
                self.signals.unclean.set()

    def _remove_container(self) -> None:
        self.node.sandbox.stop(self.name, grace=0)
        self.node.sandbox.remove(self.name)
        stored_files.release(self.name)

    def _tidy(self) -> None:
        persist(lambda: store.tidy(task=self.claim.task, attempt=self.claim.attempt))
