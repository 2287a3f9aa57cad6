"""One attempt of a task: start or adopt its container, watch it, judge its end, collect its outputs.

The steps return outcomes, and `Execution.run` alone acts on them. What the steps raise becomes an outcome in
`Execution._guarded`.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal, TypeVar

from gridapps.exports import stored_files
from gridapps.registry.errors import NotAllowed
from gridapps.runs import queue, store
from gridapps.runs.errors import CancelRequested, LostLease
from gridapps.runs.models import Run, Task
from gridapps.runs.queue import Claim
from gridapps.runs.reasons import NOT_ALLOWED, RELEASED
from gridapps.runs.states import State
from gridapps.sandbox.ending import OWN_FAILURES, Verdict, judge
from gridapps.sandbox.protocol import (
    ContainerStuck,
    Ended,
    ImageGone,
    ImageUnavailable,
    Limits,
    NameTaken,
    NodeRefused,
    SandboxError,
    inodes_for,
)
from gridapps.storage.interface import StorageUnavailable
from gridapps.worker import collection
from gridapps.worker.attempt_signals import Signals, sleep
from gridapps.worker.causes import cause
from gridapps.worker.conclusion import conclude
from gridapps.worker.last_words import last_words
from gridapps.worker.local_node import LocalNode
from gridapps.worker.log_recording import LogRecorder
from gridapps.worker.outcomes import Finished, GivenBack, Interrupted, LeaseLost, LeftRunning, Outcome
from gridapps.worker.patience import Patience, persist
from gridapps.worker.preparation import Preparation

logger = logging.getLogger(__name__)
T = TypeVar("T")

LOOK = 0.5  # seconds between two checks of log, progress and signals while a container runs
HEARD = 15.0  # seconds between two notes that a program has written to its log
GRACE = 5.0  # seconds between TERM and KILL
UNFIT = 60.0  # seconds in which a node that the registry refuses claims nothing
PAUSE = 2.0  # seconds before a task is given back after the first failure; then four times as long


class Execution:
    """One claim on one node."""

    def __init__(self, *, claim: Claim, node: LocalNode, signals: Signals) -> None:
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
        self.limits = Limits(
            cpus=run.cpus,
            memory=run.memory,
            disk=run.disk,
            log=min(node.max_log, run.disk),
            outputs=node.max_output_files,
            inodes=inodes_for(node.max_output_files),
        )
        self._files = store.AttemptFiles(claim.run, claim.index, claim.attempt)
        self._adopted = False
        self._heard = -math.inf
        self._log_before = 0  # where the log of a predecessor ends
        self._stopped_for: Literal["", "cancel", "deadline"] = ""
        # When the program's time is up, on the monotonic clock, because the system clock may jump.
        self._time_up = math.inf
        if self.task.deadline is not None:
            self._limit_time((self.task.deadline - datetime.now(UTC)).total_seconds())

    def run(self, *, adopted: bool) -> None:
        """Carry the attempt to its outcome, and act on it."""
        self._adopted = adopted
        outcome = self._guarded(self._attempt)
        if isinstance(outcome, Finished):
            outcome = self._guarded(partial(self._finish, outcome))
        if isinstance(outcome, GivenBack):
            outcome = self._guarded(partial(self._give_back, outcome))
        match outcome:
            case LeftRunning():
                return
            case LeaseLost():
                logger.warning("%s: lost its lease", self.name)
                if self._runs_elsewhere():
                    return
        self._clean()
        if isinstance(outcome, GivenBack) and outcome.node_refused:
            self.signals.waiting.set()  # the worker claims nothing meanwhile
            sleep(UNFIT, until=(self.signals.stop, self.signals.leave))

    def _guarded(self, step: Callable[[], Outcome]) -> Outcome:
        """The outcome of a step, also of one that raises."""
        try:
            return step()
        except Interrupted as interruption:
            return interruption.outcome
        except LostLease:
            return LeaseLost()
        except CancelRequested:
            return Finished(state=State.CANCELED, reason="canceled", text=self._why_canceled())
        except ContainerStuck as error:
            return self._stuck(error)
        except SandboxError as error:
            logger.warning("%s failed: %s", self.name, error)
            return GivenBack(reason="platform", text=f"Node {self.node.name}: {cause(error)}")
        except Exception as error:
            logger.exception("%s failed", self.name)
            text = f"{type(error).__name__} on node {self.node.name}. The worker's log has the details."
            return GivenBack(reason="platform", text=text)

    # The steps

    def _attempt(self) -> Outcome:
        """All steps up to the collected outputs."""
        self._log_before = self._patiently(self._files.make)
        if not self._adopted and (failure := self._start()) is not None:
            return failure
        ended = self._watch()
        if ended is None:
            text = f"The container vanished from node {self.node.name}."
            return GivenBack(reason="platform", text=text)
        verdict = judge(
            ended,
            canceled=self._stopped_for == "cancel",
            past_deadline=self._past_deadline(ended),
            limits=self.limits,
        )
        if verdict.reason == "platform":
            return GivenBack(reason="platform", text=verdict.text)
        return self._collect(ended, verdict)

    def _start(self) -> Outcome | None:
        """Start the container. Returns an outcome if that is not possible."""
        try:
            self._launch()
        except stored_files.ExportFileChanged as error:
            return Finished(state=State.FAILURE, reason="input-unreadable", text=str(error))
        except NotAllowed as error:
            return Finished(state=State.FAILURE, reason=NOT_ALLOWED, text=str(error))
        except NodeRefused as error:
            text = f"Node {self.node.name} cannot pull images. {error}"
            return GivenBack(reason=RELEASED, text=text, node_refused=True)
        except NameTaken:
            logger.info("%s is running already: adopted", self.name)
        except ImageGone as error:  # removed after the pull
            return GivenBack(reason="platform", text=f"Node {self.node.name}: {cause(error)}")
        except ImageUnavailable as error:
            return Finished(state=State.FAILURE, reason="image-refused", text=str(error))
        return None

    def _launch(self) -> None:
        task = self.task
        prepared = Preparation(
            claim=self.claim,
            task=task,
            node=self.node,
            patiently=self._patiently,
            check=self._check_signals,
            note=lambda text: self._note(fraction=None, message=text),
        )
        source = prepared.input()
        with prepared.image() as image:
            deadline = task.deadline = datetime.now(UTC) + timedelta(seconds=task.run.time)
            self._limit_time(task.run.time)
            launch = prepared.specification(image, source, self.limits, deadline)
            persist(lambda: queue.starting(claim=self.claim, deadline=deadline))
            self._patiently(lambda: self.node.sandbox.start(launch))

    def _watch(self) -> Ended | None:
        """Follow the container to its end; None if it has vanished."""
        sandbox = self.node.sandbox
        log = LogRecorder(
            log=lambda: sandbox.log(self.name),
            files=self._files,
            limit=self.limits.log,
            predecessor=self._log_before,
        )
        while True:
            try:
                ended = self._patiently(lambda: sandbox.wait(self.name, timeout=LOOK), cancelable=False)
            except ContainerStuck as error:  # wait on, until the run is canceled or its time is up
                self._note(fraction=None, message=str(error))
                ended = None
            except KeyError:
                return None
            if (latest := self._patiently(log.record, cancelable=False)) is not None:
                self._note(fraction=latest.fraction, message=latest.message)
            if log.grew:
                self._note_heard()
            if ended is not None:
                return ended
            if self.signals.cancel.is_set():
                self._stop_for("cancel")
            elif time.monotonic() >= self._time_up:
                self._stop_for("deadline")
            else:
                self._check_signals()

    def _stop_for(self, cause: Literal["cancel", "deadline"]) -> None:
        self._stopped_for = cause
        self._patiently(lambda: self.node.sandbox.stop(self.name, grace=GRACE), cancelable=False)

    def _collect(self, ended: Ended, verdict: Verdict) -> Finished:
        collected = self._patiently(
            lambda: collection.collect(
                self.node.sandbox.outputs(self.name),
                self._files.files,
                max_bytes=self.limits.disk,
                max_files=self.limits.outputs,
            ),
            cancelable=False,
        )
        text = self._explained(verdict)
        self._patiently(lambda: self._files.publish(collected.outputs), cancelable=False)
        if verdict.state == "CANCELED":
            text = self._remove_canceled()
        return conclude(ended, replace(verdict, text=text), collected)

    def _explained(self, verdict: Verdict) -> str:
        """The sentence of a verdict, with the last lines of a program that failed by itself."""
        if verdict.reason not in OWN_FAILURES:
            return verdict.text
        output = self._files.files / collection.STDOUT
        said = last_words(log=self._files.newest_log(), output=output, limits=self.limits)
        return f"{verdict.text} {said}".strip()

    def _remove_canceled(self) -> str:
        """Remove the container of a canceled attempt, and return the text for the user.

        Once the run is canceled its container is gone, or the text says that the node still holds it.
        """
        text = self._why_canceled()
        try:
            self._patiently(lambda: self.node.sandbox.remove(self.name), cancelable=False)
        except ContainerStuck as error:
            return f"{text} {self._not_removed(error)}"
        return text

    def _stuck(self, error: ContainerStuck) -> Outcome:
        """The outcome when the engine answers, but does nothing about the container."""
        text = self._not_removed(error)
        if self.signals.cancel.is_set():
            text = f"{self._why_canceled()} {text}"
            return Finished(state=State.CANCELED, reason="canceled", text=text)
        if self._stopped_for == "deadline":
            return Finished(state=State.FAILURE, reason="out-of-time", text=f"Out of time. {text}")
        return GivenBack(reason="platform", text=text)

    def _not_removed(self, error: ContainerStuck) -> str:
        return f"Node {self.node.name} could not remove the container yet. {error}"

    # Acting on outcomes

    def _finish(self, outcome: Finished) -> Finished:
        persist(lambda: queue.finish(claim=self.claim, **vars(outcome)))
        self._files.remove_earlier()
        return outcome

    def _give_back(self, outcome: GivenBack) -> GivenBack:
        """Release the task. After a failure of the platform, pause first: the attempts are few, and what
        failed may be about to recover."""
        signals = self.signals
        if outcome.reason == "platform" and self.claim.attempt < queue.MAX_ATTEMPTS:
            self._note(fraction=None, message=f"Will be retried soon: {outcome.text}")
            pause = PAUSE * 4 ** (self.claim.attempt - 1)
            sleep(pause, until=(signals.cancel, signals.stop, signals.leave, signals.lost))
        try:
            self._files.publish_log()
        except (StorageUnavailable, OSError) as error:
            logger.warning("%s: only the pieces of its log are kept: %s", self.name, error)
        persist(lambda: queue.release(claim=self.claim, reason=outcome.reason, text=outcome.text))
        return outcome

    def _runs_elsewhere(self) -> bool:
        """Whether another worker has adopted this attempt, and with it the container and the files."""
        same = Task.objects.filter(pk=self.claim.task, attempt=self.claim.attempt, state=State.RUNNING)
        return persist(same.exists)

    def _clean(self) -> None:
        """Remove container, workspace and the files that the task does not show.

        The reconciler finds a container that cannot be removed now. The files are tidied in any case: if the
        engine comes back without its containers, the reconciler finds nothing.
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

    # What the steps use

    def _check_signals(self) -> None:
        """Raise Interrupted if the attempt must go no further here."""
        if self.signals.lost.is_set():
            raise Interrupted(LeaseLost())
        if self.signals.leave.is_set():
            raise Interrupted(LeftRunning())
        if self.signals.stop.is_set():
            text = f"Node {self.node.name} was stopped."
            raise Interrupted(GivenBack(reason=RELEASED, text=text))
        if self.signals.cancel.is_set():
            text = self._why_canceled()
            raise Interrupted(Finished(state=State.CANCELED, reason="canceled", text=text))

    def _check_signals_unless_canceled(self) -> None:
        if not self.signals.cancel.is_set():
            self._check_signals()

    def _patiently(self, action: Callable[[], T], *, cancelable: bool = True, alone: bool = False) -> T:
        """See `Patience`. `cancelable` is false while a container may run, because a cancel must stop it."""
        check = self._check_signals if cancelable else self._check_signals_unless_canceled
        return self._patience(action, check=check, alone=alone)

    def _note(self, *, fraction: float | None, message: str) -> None:
        persist(lambda: queue.progress(claim=self.claim, fraction=fraction, message=message))

    def _note_heard(self) -> None:
        """Note that the program has written to its log, at most once in HEARD seconds."""
        now = time.monotonic()
        if now >= self._heard + HEARD:
            self._heard = now
            persist(lambda: queue.heard(claim=self.claim))

    def _why_canceled(self) -> str:
        return persist(lambda: Run.objects.get(pk=self.claim.run)).cancel_text or queue.CANCELED

    def _limit_time(self, seconds: float) -> None:
        self._time_up = time.monotonic() + min(max(seconds, 0), self.task.run.time)

    def _past_deadline(self, ended: Ended) -> bool:
        """Whether the deadline ended the program. One that ends by itself is in time, even if the system
        clock has jumped. The end of an adopted container may be older than its adoption, so the clock
        decides."""
        if self._stopped_for == "deadline":
            return ended.interrupted
        deadline = self.task.deadline
        return self._adopted and deadline is not None and ended.ended_at >= deadline
