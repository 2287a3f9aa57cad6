"""Shapes of runs."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from gridapps.api.native.answers import Shape
from gridapps.api.native.hook_shapes import Events, Target
from gridapps.api.native.parsing import PK_PATTERN
from gridapps.api.native.shapes import Digest, ResourceRequest, Resources, State, Text, Time, whole
from gridapps.hooks.operations import LONGEST_SECRET, SHORTEST_SECRET
from gridapps.runs.waiting import Cause

TAG_OR_DIGEST = "^(sha256:[0-9a-f]{64}|[A-Za-z0-9_][A-Za-z0-9._-]{0,127})$"


def _key(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch(PK_PATTERN, value) else whole(value)


Key = Annotated[
    int,
    Field(strict=True, ge=1, lt=10**18),
    BeforeValidator(_key),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^{PK_PATTERN}$"},
                {"type": "integer", "minimum": 1, "maximum": 10**18 - 1},
            ]
        }
    ),
]


Priority = Annotated[int, Field(strict=True, ge=-10, le=10), BeforeValidator(whole)]


class Usage(Shape):
    """Of ended tasks: processor seconds, the highest memory of a task, bytes of outputs and logs."""

    cpu_seconds: float
    memory_bytes: int
    disk_bytes: int


class Attempt(Shape):
    number: int
    node: str
    started_at: Time
    ended_at: Time | None
    reason: str | None
    reason_text: str
    exit_code: int | None
    usage: Usage


class LeftOut(Shape):
    """`lost`: its content is in no output."""

    path: str
    why: str
    lost: bool


class WaitingFor(Shape):
    """What the run's first queued task waits for."""

    cause: Cause
    text: str
    own_tasks_ahead: Annotated[int, Field(ge=0)]
    other_tasks_ahead: Annotated[int, Field(ge=0)]


class RunTask(Shape):
    id: str
    index: int
    exportfile: str
    name: str
    state: State
    progress: float
    message: str
    reason: str | None
    reason_text: str
    exit_code: int | None
    attempts: list[Attempt]
    left_out: Annotated[list[LeftOut], Field(description="the first of them")]
    left_out_count: int
    last_heard_at: Annotated[
        Time | None, Field(description="of a running task: when it was claimed, or last wrote to its log")
    ]
    usage: Usage
    queued_at: Time
    started_at: Time | None
    ended_at: Time | None


class Urls(Shape):
    self: str
    log: str
    outputs: str
    zip: str
    cancel: str
    retry: str


class Run(Shape):
    """`tasks`, `queue_position` and `waiting_for` occur only in answers about single runs."""

    id: str
    task_id: str
    app: str
    release: Digest
    export: str
    exportfile: str | None
    arguments: dict[str, Any]
    resources: Resources
    priority: Priority
    state: State
    progress: Annotated[float, Field(ge=0, le=1)]
    message: str
    reason: str | None
    reason_text: str
    retry_of: str | None
    version: int
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    cancel_requested: bool
    shown_to_developer: bool
    outputs_expire_at: Annotated[Time | None, Field(description="when the instance will remove them")]
    outputs_removed_at: Time | None
    task_counts: dict[State, int]
    usage: Usage
    urls: Urls
    queue_position: Annotated[
        int | None, Field(ge=0, description="estimate: tasks that are claimed before the run's next one")
    ] = None
    waiting_for: WaitingFor | None = None
    tasks: list[RunTask] = []


class RunsAnswer(Shape):
    runs: list[Run]
    next: str = ""


class Submitted(Shape):
    run_id: str
    task_id: str


class SubmittedAnswer(Shape):
    runs: list[Submitted]


class RunHook(Shape):
    """A hook for this run only; without `event`, for all its events. Signed with a secret of the client."""

    target: Target
    secret: Annotated[Text, Field(min_length=SHORTEST_SECRET, max_length=LONGEST_SECRET)]
    event: Events = ""  # all of a run's

    def wanted(self) -> dict[str, Any]:
        """What the operation takes."""
        return {
            "target": self.target,
            "secret": self.secret,
            "events": self.event.split(",") if self.event else [],
        }


class _Submission(Shape):
    arguments: dict[str, Any] = Field(default_factory=dict)
    release: Annotated[
        Text, Field(pattern=TAG_OR_DIGEST, description="digest or tag; the newest by default")
    ] = ""
    resources: ResourceRequest = Field(default_factory=ResourceRequest)
    priority: Annotated[Priority, Field(description="among your own runs; higher goes first")] = 0
    hook: RunHook | None = None


class ExportSubmission(_Submission):
    """A run over every file of an export."""

    export: Key


class ExportFileSubmission(_Submission):
    """A run over one file of an export."""

    exportfile: Key


def _which(body: Any) -> str:
    named = body if isinstance(body, dict) else getattr(body, "model_fields_set", ())
    return "of a file" if "exportfile" in named and "export" not in named else "of an export"


Submission = Annotated[
    Annotated[ExportSubmission, Tag("of an export")] | Annotated[ExportFileSubmission, Tag("of a file")],
    Discriminator(_which),
]


class Output(Shape):
    """`path`: the task's index, then the path below /grid. `partial`: the task did not succeed."""

    path: str
    task: str
    size: int
    sha256: str
    media_type: str
    partial: bool
    url: str


class RunLeftOut(LeftOut):
    """`path`: as of an output, with unprintable characters escaped."""

    task: str


class OutputsAnswer(Shape):
    outputs: list[Output]
    left_out: Annotated[list[RunLeftOut], Field(description="the first of what could not be kept")]
    left_out_count: int
    next: str = ""
