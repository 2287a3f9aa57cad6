"""Runs, their tasks, logs and outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gridapps_client.models.apps import Resources

TERMINAL = frozenset({"SUCCESS", "FAILURE", "CANCELED"})


@dataclass(frozen=True)
class Attempt:
    """One attempt at a task."""

    number: int
    node: str
    started_at: datetime
    ended_at: datetime | None
    reason: str | None
    reason_text: str
    exit_code: int | None
    usage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """An output that was not collected, and the reason. `lost`: its content is in no output."""

    path: str
    why: str
    lost: bool = True


@dataclass(frozen=True)
class LeftOutFiles:
    """What the tasks of a run left that could not be kept: how many, and the first of them."""

    left_out_count: int = 0
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class WaitingFor:
    """What the first queued task of a run waits for: a code, a sentence, and the tasks that go first."""

    cause: str
    text: str
    own_tasks_ahead: int = 0
    other_tasks_ahead: int = 0


@dataclass(frozen=True)
class RunTask:
    """One container execution of a run, on one export file."""

    id: str
    index: int
    exportfile: str
    name: str
    state: str
    progress: float
    message: str
    reason: str | None
    reason_text: str
    exit_code: int | None
    attempts: list[Attempt]
    left_out: list[LeftOut]
    usage: dict[str, Any]
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    left_out_count: int = 0
    last_heard_at: str | None = None


@dataclass(frozen=True)
class Run:
    """A release applied to an export. Only the answer for a single run has `tasks` and `queue_position`, an
    estimate of how many tasks start before the run's next one.
    """

    id: str
    task_id: str
    app: str
    release: str
    export: str
    exportfile: str | None
    arguments: dict[str, Any]
    resources: Resources
    state: str
    progress: float
    message: str
    reason: str | None
    reason_text: str
    retry_of: str | None
    version: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested: bool
    task_counts: dict[str, int]
    usage: dict[str, Any]
    urls: dict[str, str]
    priority: int = 0
    shown_to_developer: bool = False
    outputs_expire_at: datetime | None = None
    outputs_removed_at: datetime | None = None
    queue_position: int | None = None
    waiting_for: WaitingFor | None = None
    tasks: list[RunTask] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in TERMINAL


@dataclass(frozen=True)
class Submitted:
    """The ids of an accepted run."""

    run_id: str
    task_id: str


@dataclass(frozen=True)
class Output:
    """An output file. `path` is the task's index, then the path below /grid; `size` in bytes."""

    path: str
    task: str
    size: int
    sha256: str
    media_type: str
    partial: bool
    url: str


@dataclass(frozen=True)
class Line:
    """A line of a task's log. `at` as in the log: RFC 3339 in UTC, with microseconds."""

    task: int
    at: str
    text: str
