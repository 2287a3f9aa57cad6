"""What an attempt needs before its container starts: the input on the node, the image, and the permission."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from gridapps.exports import stored_files
from gridapps.exports.endings import ending_of
from gridapps.pushes import references
from gridapps.registry import queries
from gridapps.runs.models import Run, Task
from gridapps.runs.queue import Claim
from gridapps.sandbox.protocol import Launch, Limits, PullProgress
from gridapps.worker.local_node import LocalNode
from gridapps.worker.patience import persist

ASK = 1.0  # seconds for which one question about a pull waits; then signals are checked
TELL = 3.0  # seconds between two messages about a pull
_MIB = 1024**2


class PatientCall(Protocol):
    """Retries an action patiently: see `Execution._patiently`."""

    def __call__(self, action: Callable[[], Any], *, alone: bool = False) -> Any: ...


class Preparation:
    """For one attempt. `patiently` retries a step, `check` raises when the attempt must go no further, and
    `note` shows a message to the user."""

    def __init__(
        self,
        *,
        claim: Claim,
        task: Task,
        node: LocalNode,
        patiently: PatientCall,
        check: Callable[[], None],
        note: Callable[[str], None],
    ) -> None:
        self._claim = claim
        self._task = task
        self._node = node
        self._name = node.container(claim)
        self._patiently = patiently
        self._check = check
        self._note = note

    def input(self) -> Path:
        """The export file on this node. Raises ExportFileChanged."""
        path: Path = self._patiently(
            lambda: stored_files.provide(self._task.exportfile, by=self._name, check=self._check)
        )
        return path

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
            "gridapps.run": str(self._claim.run),
            "gridapps.task": str(task.id),
            "gridapps.attempt": str(self._claim.attempt),
        }
        return Launch(
            name=self._name,
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
        run = persist(lambda: runs.get(pk=self._claim.run))
        return references.pull_of(run.release, persist(lambda: queries.source_for(run.owner, run.release)))

    def _pull(self, pull: references.ImagePull) -> None:
        """Pull the image, and tell the progress. An attempt that goes no further stops asking, so the pull is
        abandoned unless another attempt waits for the same image."""
        told, due = False, time.monotonic() + ASK
        try:
            while (progress := self._ask(pull)) is not None:
                self._check()
                if time.monotonic() >= due:
                    self._note(_sentence(progress))
                    told, due = True, time.monotonic() + TELL
        finally:
            if told:
                self._note("")

    def _ask(self, pull: references.ImagePull) -> PullProgress | None:
        images = self._node.images
        progress: PullProgress | None = self._patiently(
            lambda: images.pull(pull.reference, token=pull.token(), timeout=ASK), alone=True
        )
        return progress


def _sentence(progress: PullProgress) -> str:
    if not progress.total:
        return "Pulling the image."
    return f"Pulling the image: {progress.done // _MIB} of {-(-progress.total // _MIB)} MiB."
