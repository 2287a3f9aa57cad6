"""Comparing the containers of a node with the rows: which are adopted, which are removed."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

from gridapps.exports import stored_files
from gridapps.runs import queue
from gridapps.runs.models import Task
from gridapps.runs.queue import Claim
from gridapps.runs.states import State
from gridapps.runs.store import tidy
from gridapps.sandbox.protocol import Resident
from gridapps.worker.clearing import Clearing
from gridapps.worker.local_node import LocalNode
from gridapps.worker.running import RunningAttempts

logger = logging.getLogger(__name__)


class Reconciler:
    """Reconciles the rows of one node with its containers."""

    def __init__(
        self, node: LocalNode, attempts: RunningAttempts, clearing: Clearing, *, lease: timedelta
    ) -> None:
        self._node = node
        self._attempts = attempts
        self._clearing = clearing
        self._lease = lease

    def adopt(self, submit: Callable[[Claim], None]) -> None:
        """Take over the attempts of the node's previous worker: `submit` those that have a container, and
        give back the others. No other worker can do it."""
        present = {key for resident in self._residents() if (key := _key(resident))}
        for claim in queue.lost(node=self._node.name, present=present):
            text = f"The container was gone when node {self._node.name} came back."
            queue.release(claim=claim, reason="platform", text=text)
            tidy(task=claim.task, attempt=claim.attempt)
        for task, attempt in present - self._attempts.task_attempts():
            adopted = queue.adopt(task=task, attempt=attempt, node=self._node.name, lease=self._lease)
            if adopted is not None:
                logger.info("task %s, attempt %s: adopted", task, attempt)
                submit(adopted)

    def remove_orphans(self) -> None:
        """Begin to remove the containers and workspaces of attempts that do not run according to the rows."""
        residents = self._residents()
        for resident in residents:
            key = _key(resident)
            if key and Task.objects.filter(pk=key[0], attempt=key[1], state=State.RUNNING).exists():
                continue
            if key in self._attempts.task_attempts():
                continue
            self._clearing.remove(resident.name, then=partial(_tidy, key))
        names = {resident.name for resident in residents}
        self._clearing.forget_others(names)
        stored_files.release_others(names | {self._node.container(claim) for claim in self._attempts.all()})

    def _residents(self) -> list[Resident]:
        return self._node.sandbox.residents(labels=self._node.labels())


def _tidy(key: tuple[UUID, int] | None) -> None:
    if key is not None:
        tidy(task=key[0], attempt=key[1])


def _key(resident: Resident) -> tuple[UUID, int] | None:
    try:
        return UUID(resident.labels["gridapps.task"]), int(resident.labels["gridapps.attempt"])
    except (KeyError, ValueError):
        return None
