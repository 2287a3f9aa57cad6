"""Answers of an instance as frozen dataclasses, with the fields of docs/api.md. Times are in UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

TERMINAL = frozenset({"SUCCESS", "FAILURE", "CANCELED"})


@dataclass(frozen=True)
class Me:
    """The user whom the token belongs to. `developer`: none, requested, verified or refused."""

    username: str
    administrator: bool
    developer: str
    access_tags: list[str]


@dataclass(frozen=True)
class Developer:
    """A user's request to become a developer. `images_used` and `images_limit` are bytes of disk; a limit of
    0 means no limit.
    """

    state: str
    statement: str
    requested_at: datetime | None
    decided_at: datetime | None
    images_used: int = 0
    images_limit: int = 0


@dataclass(frozen=True)
class Certificate:
    """A client certificate. `state`: valid, expired or revoked."""

    serial: str
    name: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    created_at: datetime
    revoked_at: datetime | None
    state: str


@dataclass(frozen=True)
class IssuedCertificate:
    """A new certificate as PEM. `key` is set only if the instance made it, and is never shown again."""

    certificate: Certificate
    pem: str
    ca: str
    authority: str
    key: str | None = None


@dataclass(frozen=True)
class Resources:
    """The resources of each task: processors, bytes of memory and disk, seconds of wall-clock time."""

    cpus: float
    memory: int
    disk: int
    time: int


@dataclass(frozen=True)
class Attachment:
    """A document attached to a release. `kind`: signature, attestation, sbom or other; `size` in bytes;
    `verified_by`: the known key that made the signature; `subject`: the digest of the manifest in the
    release's index that it is about, or None for the release itself.
    """

    kind: str
    digest: str
    media_type: str
    size: int
    verified_by: str | None
    subject: str | None = None


@dataclass(frozen=True)
class App:
    """An App. `arguments` is its JSON Schema; `release` the digest of the newest valid release, or None."""

    id: str
    title: str
    description: str
    owner: str
    arguments: dict[str, Any]
    resources: Resources
    created_at: datetime
    updated_at: datetime
    runnable: bool
    release: str | None
    repository: str
    attachments: list[Attachment] = field(default_factory=list)
    blocked: str | None = None  # the reason, while an administrator has blocked it
    blocked_at: datetime | None = None


@dataclass(frozen=True)
class Release:
    """A pushed image. `state`: valid, refused or removed; the latter two have `reasons`. `size` in bytes.

    `remarks`: what will not work as its developer may expect.
    """

    digest: str
    tags: list[str]
    pushed_at: datetime
    size: int
    layers: int
    entrypoint: list[str]
    command: list[str]
    state: str
    reasons: list[str]
    attachments: list[Attachment] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    blocked: str | None = None
    blocked_at: datetime | None = None


@dataclass(frozen=True)
class Tally:
    """How many runs, and how many of their tasks, ended in each state."""

    runs: dict[str, int]
    tasks: dict[str, int]


@dataclass(frozen=True)
class ReleaseCounts:
    """Runs of one release: by the App's owner, and by others."""

    release: str
    own: Tally
    others: Tally


@dataclass(frozen=True)
class AppCounts:
    """Runs that ended before `until`, the last midnight. `recent`: those since `since`."""

    since: datetime
    until: datetime
    in_all: list[ReleaseCounts]
    recent: list[ReleaseCounts]


@dataclass(frozen=True)
class Share:
    """A share of a release with the holders of an access tag. `state`: copying, active, revoked or failed;
    `copied` and `size` in bytes; `scan` is the end of the scanner's output.
    """

    pk: str
    app: str
    release: str
    access_tag: str
    state: str
    copied: int
    size: int
    reason: str
    title: str
    description: str
    arguments: dict[str, Any]
    resources: Resources
    created_at: datetime
    created_by: str | None
    activated_at: datetime | None
    ended_at: datetime | None
    attachments: list[Attachment] = field(default_factory=list)
    scanned_at: datetime | None = None
    scan: str = ""


@dataclass(frozen=True)
class ExportFile:
    """A point cloud file. `bounds`: minimum x, y, z, then maximum; `geom`: WKT; both in the file's CRS, which
    `crs` has as WKT 2 and `crs_code` as EPSG:CODE, if it has one. `geojson`: the footprint in WGS 84.
    `returns`: points by return number. `gps_time`: least and greatest. `remarks`: sentences.
    """

    pk: str
    name: str
    filesize: int
    sha256: str
    points: int
    las_version: str
    point_format: int
    bounds: list[float]
    crs: str
    geom: str
    crs_name: str = ""
    crs_code: str = ""
    geojson: dict[str, Any] | None = None
    returns: list[int] | None = None
    gps_time: list[float] | None = None
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Export:
    """One or more point cloud files that belong together."""

    pk: str
    name: str
    user: str
    created_at: datetime
    notes: str
    exportfiles: list[ExportFile]


@dataclass(frozen=True)
class UploadedFile:
    """A file of an upload. `offset`: how many bytes have arrived; `reason`: why it was refused."""

    index: int
    name: str
    size: int
    sha256: str
    offset: int
    reason: str
    url: str


@dataclass(frozen=True)
class Upload:
    """Files that become an export. `state`: receiving, checking, ready or refused."""

    id: str
    name: str
    skip_bad: bool
    state: str
    reason: str
    export: str | None
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    files: list[UploadedFile]


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
class Hook:
    """A subscription to events, which are POSTed to `target`. `event`: one or more, separated by commas."""

    pk: str
    user: str
    created_at: datetime
    target: str
    event: str
    active: bool
    run: str | None


@dataclass(frozen=True)
class Delivery:
    """An event for a hook. `state`: waiting, delivered or failed; `status` and `error`: of the last try."""

    id: str
    event: str
    state: str
    tries: int
    created_at: datetime
    due_at: datetime | None
    tried_at: datetime | None
    settled_at: datetime | None
    status: int | None
    error: str | None


@dataclass(frozen=True)
class Line:
    """A line of a task's log. `at` as in the log: RFC 3339 in UTC, with microseconds."""

    task: int
    at: str
    text: str
