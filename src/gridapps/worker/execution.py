"""One attempt of a task: start or adopt its container, watch it, judge its end, collect its outputs.

The steps return outcomes, and `Execution.run` alone acts on them. What the steps raise becomes an outcome in
`Execution._guarded`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gridapps.exports import stored_files
from gridapps.registry.errors import NotAllowed
from gridapps.runs import queue, store
from gridapps.runs.errors import CancelRequested, LostLease
from gridapps.runs.models import Task
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
from gridapps.worker.attempt_control import AttemptControl
from gridapps.worker.attempt_signals import Signals, sleep
from gridapps.worker.causes import cause
from gridapps.worker.conclusion import conclude
from gridapps.worker.container_watch import ContainerWatch
from gridapps.worker.last_lines import last_lines
from gridapps.worker.local_node import LocalNode
from gridapps.worker.outcomes import Finished, GivenBack, Interrupted, LeaseLost, LeftRunning, Outcome
from gridapps.worker.patience import persist
from gridapps.worker.preparation import Preparation
from gridapps.worker.time_limit import TimeLimit

logger = logging.getLogger(__name__)

UNFIT = 60.0  # seconds in which a node that the registry refuses claims nothing
PAUSE = 2.0  # seconds before a task is given back after the first failure; then four times as long


class Execution:
    """One claim on one node."""

    def __init__(self, *, claim: Claim, node: LocalNode, signals: Signals) -> None:
        self._claim = claim
        self._node = node
        self._signals = signals
        self._control = AttemptControl(claim=claim, node=node, signals=signals)
        self._name = self._control.name
        tasks = Task.objects.select_related("run__release__app", "exportfile")
        self._task = persist(lambda: tasks.get(pk=claim.task))
        self._limits = _limits(self._task, node)
        self._files = store.AttemptFiles(claim.run, claim.index, claim.attempt)
        self._time_limit = TimeLimit(seconds=self._task.run.time, deadline=self._task.deadline)
        self._watch = ContainerWatch(
            self._control, files=self._files, max_log=self._limits.log, time_limit=self._time_limit
        )
        self._adopted = False

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
                logger.warning("%s: lost its lease", self._name)
                if self._runs_elsewhere():
                    return
        self._clean()
        if isinstance(outcome, GivenBack) and outcome.node_refused:
            self._signals.waiting.set()  # the worker claims nothing meanwhile
            sleep(UNFIT, until=(self._signals.stop, self._signals.leave))

    def _guarded(self, step: Callable[[], Outcome]) -> Outcome:
        """The outcome of a step, also of one that raises."""
        try:
            return step()
        except Interrupted as interruption:
            return interruption.outcome
        except LostLease:
            return LeaseLost()
        except CancelRequested:
            return Finished(state=State.CANCELED, reason="canceled", text=self._control.why_canceled())
        except ContainerStuck as error:
            return self._stuck(error)
        except SandboxError as error:
            logger.warning("%s failed: %s", self._name, error)
            return GivenBack(reason="platform", text=f"Node {self._node.name}: {cause(error)}")
        except Exception as error:
            logger.exception("%s failed", self._name)
            text = f"{type(error).__name__} on node {self._node.name}. The worker's log has the details."
            return GivenBack(reason="platform", text=text)

    # The steps

    def _attempt(self) -> Outcome:
        """All steps up to the collected outputs."""
        log_before = self._control.patiently(self._files.make)
        if not self._adopted and (failure := self._start()) is not None:
            return failure
        ended = self._watch.follow(log_before=log_before)
        if ended is None:
            text = f"The container vanished from node {self._node.name}."
            return GivenBack(reason="platform", text=text)
        verdict = judge(
            ended,
            canceled=self._watch.stopped_for == "cancel",
            past_deadline=self._past_deadline(ended),
            limits=self._limits,
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
            text = f"Node {self._node.name} cannot pull images. {error}"
            return GivenBack(reason=RELEASED, text=text, node_refused=True)
        except NameTaken:
            logger.info("%s is running already: adopted", self._name)
        except ImageGone as error:  # removed after the pull
            return GivenBack(reason="platform", text=f"Node {self._node.name}: {cause(error)}")
        except ImageUnavailable as error:
            return Finished(state=State.FAILURE, reason="image-refused", text=str(error))
        return None

    def _launch(self) -> None:
        prepared = Preparation(self._control, self._task)
        source = prepared.input()
        with prepared.image() as image:
            deadline = self._time_limit.start()
            launch = prepared.specification(image, source, self._limits, deadline)
            persist(lambda: queue.starting(claim=self._claim, deadline=deadline))
            self._control.patiently(lambda: self._node.sandbox.start(launch))

    def _collect(self, ended: Ended, verdict: Verdict) -> Finished:
        collected = self._control.patiently(
            lambda: collection.collect(
                self._node.sandbox.outputs(self._name),
                self._files.files,
                max_bytes=self._limits.disk,
                max_files=self._limits.outputs,
            ),
            cancelable=False,
        )
        text = self._explained(verdict)
        self._control.patiently(lambda: self._files.publish(collected.outputs), cancelable=False)
        if verdict.state == "CANCELED":
            text = self._remove_canceled()
        return conclude(ended, replace(verdict, text=text), collected)

    def _explained(self, verdict: Verdict) -> str:
        """The sentence of a verdict, with the last lines of a program that failed by itself."""
        if verdict.reason not in OWN_FAILURES:
            return verdict.text
        output = self._files.files / collection.STDOUT
        said = last_lines(log=self._files.newest_log(), output=output, limits=self._limits)
        return f"{verdict.text} {said}".strip()

    def _remove_canceled(self) -> str:
        """Remove the container of a canceled attempt, and return the text for the user.

        Once the run is canceled its container is gone, or the text says that the node still holds it.
        """
        text = self._control.why_canceled()
        try:
            self._control.patiently(lambda: self._node.sandbox.remove(self._name), cancelable=False)
        except ContainerStuck as error:
            return f"{text} {self._not_removed(error)}"
        return text

    def _stuck(self, error: ContainerStuck) -> Outcome:
        """The outcome when the engine answers, but does nothing about the container."""
        text = self._not_removed(error)
        if self._signals.cancel.is_set():
            text = f"{self._control.why_canceled()} {text}"
            return Finished(state=State.CANCELED, reason="canceled", text=text)
        if self._watch.stopped_for == "deadline":
            return Finished(state=State.FAILURE, reason="out-of-time", text=f"Out of time. {text}")
        return GivenBack(reason="platform", text=text)

    def _not_removed(self, error: ContainerStuck) -> str:
        return f"Node {self._node.name} could not remove the container yet. {error}"

    # Acting on outcomes

    def _finish(self, outcome: Finished) -> Finished:
        persist(lambda: queue.finish(claim=self._claim, **vars(outcome)))
        self._files.remove_earlier()
        return outcome

    def _give_back(self, outcome: GivenBack) -> GivenBack:
        """Release the task. After a failure of the platform, pause first: the attempts are few, and what
        failed may be about to recover."""
        signals = self._signals
        if outcome.reason == "platform" and self._claim.attempt < queue.MAX_ATTEMPTS:
            self._control.say(f"Will be retried soon: {outcome.text}")
            pause = PAUSE * 4 ** (self._claim.attempt - 1)
            sleep(pause, until=(signals.cancel, signals.stop, signals.leave, signals.lost))
        try:
            self._files.publish_log()
        except (StorageUnavailable, OSError) as error:
            logger.warning("%s: only the pieces of its log are kept: %s", self._name, error)
        persist(lambda: queue.release(claim=self._claim, reason=outcome.reason, text=outcome.text))
        return outcome

    def _runs_elsewhere(self) -> bool:
        """Whether another worker has adopted this attempt, and with it the container and the files."""
        same = Task.objects.filter(pk=self._claim.task, attempt=self._claim.attempt, state=State.RUNNING)
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
                logger.exception("%s: not removed yet", self._name)
                self._signals.unclean.set()

    def _remove_container(self) -> None:
        self._node.sandbox.stop(self._name, grace=0)
        self._node.sandbox.remove(self._name)
        stored_files.release(self._name)

    def _tidy(self) -> None:
        persist(lambda: store.tidy(task=self._claim.task, attempt=self._claim.attempt))

    def _past_deadline(self, ended: Ended) -> bool:
        """Whether the deadline ended the program. One that ends by itself is in time, even if the system
        clock has jumped. The end of an adopted container may be older than its adoption, so the clock
        decides."""
        if self._watch.stopped_for == "deadline":
            return ended.interrupted
        return self._adopted and self._time_limit.was_up(ended)


def _limits(task: Task, node: LocalNode) -> Limits:
    run = task.run
    return Limits(
        cpus=run.cpus,
        memory=run.memory,
        disk=run.disk,
        log=min(node.max_log, run.disk),
        outputs=node.max_output_files,
        inodes=inodes_for(node.max_output_files),
    )
