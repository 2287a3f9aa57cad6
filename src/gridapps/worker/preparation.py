"""What an attempt needs before its container starts: the input on the node, the image, and the permission."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from gridapps.exports import stored_files
from gridapps.exports.endings import ending_of
from gridapps.pushes import references
from gridapps.registry import queries
from gridapps.runs.models import Run, Task
from gridapps.sandbox.protocol import Launch, Limits, PullProgress
from gridapps.worker.attempt_control import AttemptControl
from gridapps.worker.patience import persist

ASK = 1.0  # seconds for which one question about a pull waits; then signals are checked
SHOW = 3.0  # seconds between two messages about a pull
_MIB = 1024**2


class Preparation:
    """For one attempt at a task."""

    def __init__(self, control: AttemptControl, task: Task) -> None:
        self._control = control
        self._task = task
        self._node = control.node

    def input(self) -> Path:
        """The export file on this node. Raises ExportFileChanged."""
        control = self._control
        return control.patiently(
            lambda: stored_files.provide(self._task.exportfile, by=control.name, check=control.check)
        )

    @contextmanager
    def image(self) -> Iterator[str]:
        """The reference of the image, which is kept on this node meanwhile.

        Raises NotAllowed unless the run's owner may run it, also after a long pull.
        """
        pull = self._permitted()
        with self._node.images.lease(pull.reference):
            self._pull(pull)
            self._permitted()
            yield pull.reference

    def specification(self, image: str, source: Path, limits: Limits, deadline: datetime) -> Launch:
        """What the container is started with."""
        task = self._task
        labels = {
            "gridapps.run": str(self._control.claim.run),
            "gridapps.task": str(task.id),
            "gridapps.attempt": str(self._control.claim.attempt),
        }
        return Launch(
            name=self._control.name,
            image=image,
            arguments=json.dumps(task.run.arguments).encode(),
            input=source,
            input_name=f"pointcloud{ending_of(source)}",
            run=str(task.run_id),
            task=str(task.id),
            limits=limits,
            deadline=deadline,
            labels=self._node.labels() | labels,
            entry=references.entry_point(task.run.release),
        )

    def _permitted(self) -> references.ImagePull:
        """Where the image comes from."""
        runs = Run.objects.select_related("owner", "release__app")
        run = persist(lambda: runs.get(pk=self._control.claim.run))
        return references.pull_of(run.release, persist(lambda: queries.source_for(run.owner, run.release)))

    def _pull(self, pull: references.ImagePull) -> None:
        """Pull the image and show the progress. An attempt that must not continue stops asking; the pull is
        then abandoned, unless another attempt waits for the same image."""
        shown, due = False, time.monotonic() + ASK
        try:
            while (progress := self._ask(pull)) is not None:
                self._control.check()
                if time.monotonic() >= due:
                    self._control.say(_sentence(progress))
                    shown, due = True, time.monotonic() + SHOW
        finally:
            if shown:
                self._control.say("")

    def _ask(self, pull: references.ImagePull) -> PullProgress | None:
        images = self._node.images
        return self._control.patiently(
            lambda: images.pull(pull.reference, token=pull.token(), timeout=ASK), alone=True
        )


def _sentence(progress: PullProgress) -> str:
    if not progress.total:
        return "Pulling the image."
    return f"Pulling the image: {progress.done // _MIB} of {-(-progress.total // _MIB)} MiB."
