"""Shapes of everything but runs and hooks: the objects of docs/api.md."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema

from gridapps.api.native.answers import Shape
from gridapps.exports.naming import MAX_NAME
from gridapps.registry.models import APP_ID
from gridapps.registry.operations import MAX_DESCRIPTION, MAX_TITLE
from gridapps.registry.sharing import MAX_REASON

_MOMENT = (
    r"(19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
MAX_INTEGER = 2**53 - 1  # the largest integer that every JSON reader holds exactly


def rfc3339(time: datetime) -> str:
    """The time in UTC, with microseconds and `Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def whole(value: Any) -> Any:
    """JSON has one kind of number: 2.0 is the integer 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Time = Annotated[
    datetime, PlainSerializer(rfc3339), WithJsonSchema({"type": "string", "format": "date-time"})
]
Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
State = Literal["QUEUED", "RUNNING", "SUCCESS", "FAILURE", "CANCELED"]
ShareState = Literal["copying", "active", "revoked", "failed"]
DeveloperState = Literal["none", "requested", "verified", "refused"]
Text = Annotated[str, StringConstraints(strict=True)]
Positive = Annotated[int, Field(strict=True, ge=1, le=MAX_INTEGER), BeforeValidator(whole)]


class Me(Shape):
    username: str
    administrator: bool
    developer: DeveloperState
    access_tags: list[str]


class MeAnswer(Shape):
    user: Me


class Developer(Shape):
    """`images_used`: bytes of disk; `images_limit`: their limit, 0 for none."""

    state: DeveloperState
    statement: str
    requested_at: Time | None
    decided_at: Time | None
    images_used: int
    images_limit: int


class DeveloperAnswer(Shape):
    developer: Developer


class DeveloperRequest(Shape):
    statement: Annotated[Text, Field(min_length=1, max_length=4000)]


class Resources(Shape):
    """Per task: processors, bytes of memory, bytes of outputs and log, seconds."""

    cpus: float
    memory: int
    disk: int
    time: int


class ResourceRequest(Shape):
    """Per task. Absent fields do not change, or get a default."""

    cpus: Annotated[float, Field(strict=True, gt=0, le=MAX_INTEGER)] = 1
    memory: Positive = 1
    disk: Positive = 1
    time: Positive = 1

    def named(self) -> dict[str, float]:
        """Only the fields in the request."""
        return self.model_dump(exclude_unset=True)


class Attachment(Shape):
    """`verified_by`: the known key that made the signature."""

    kind: Literal["signature", "attestation", "sbom", "other"]
    digest: Digest
    media_type: str
    size: int
    subject: Digest | None
    verified_by: str | None


class App(Shape):
    id: str
    title: str
    description: str
    owner: str
    arguments: dict[str, Any]
    resources: Resources
    created_at: Time
    updated_at: Time
    runnable: bool
    release: Digest | None
    repository: str
    attachments: list[Attachment]
    blocked: str | None
    blocked_at: Time | None


class AppsAnswer(Shape):
    apps: list[App]
    next: str = ""


class NewApp(Shape):
    id: Annotated[Text, Field(pattern=APP_ID)]
    title: Annotated[Text, Field(min_length=1, max_length=MAX_TITLE)]
    description: Annotated[Text, Field(max_length=MAX_DESCRIPTION)] = ""
    arguments: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object"}, description="JSON Schema 2020-12"
    )
    resources: ResourceRequest = Field(default_factory=ResourceRequest)


class AppChanges(Shape):
    """Absent fields do not change."""

    title: Annotated[Text, Field(min_length=1, max_length=MAX_TITLE)] = "-"
    description: Annotated[Text, Field(max_length=MAX_DESCRIPTION)] = ""
    arguments: dict[str, Any] = Field(default_factory=dict, description="JSON Schema 2020-12")
    resources: ResourceRequest = Field(default_factory=ResourceRequest)


class Release(Shape):
    digest: Digest
    tags: list[str]
    pushed_at: Time
    size: int
    layers: int
    entrypoint: list[str]
    command: list[str]
    state: Literal["valid", "refused", "removed"]
    reasons: list[str]
    remarks: list[str]
    attachments: list[Attachment]
    removed_at: Time | None
    blocked: str | None
    blocked_at: Time | None


class ReleasesAnswer(Shape):
    releases: list[Release]
    next: str = ""


class EndedCounts(Shape):
    """How many ended in each state."""

    SUCCESS: int
    FAILURE: int
    CANCELED: int


class Tally(Shape):
    runs: EndedCounts
    tasks: EndedCounts


class ReleaseCounts(Shape):
    """`own`: runs of the App's owner; `others`: runs of all others."""

    release: Digest
    own: Tally
    others: Tally


class AppCounts(Shape):
    """Runs that ended before `until`, the last midnight; `recent`: those of the 30 days before it."""

    since: Time
    until: Time
    in_all: list[ReleaseCounts]
    recent: list[ReleaseCounts]


class AppCountsAnswer(Shape):
    counts: AppCounts


class Share(Shape):
    """`copied` of `size` bytes are in the trusted registry. Users see the App as it was when it was shared.

    `scan` is the end of the scanner's output.
    """

    pk: str
    app: str
    release: Digest
    access_tag: str
    state: ShareState
    copied: int
    size: int
    reason: str
    attachments: list[Attachment]
    scanned_at: Time | None
    scan: str
    title: str
    description: str
    arguments: dict[str, Any]
    resources: Resources
    created_at: Time
    created_by: str | None
    activated_at: Time | None
    ended_at: Time | None


class SharesAnswer(Shape):
    shares: list[Share]
    next: str = ""


class NewShare(Shape):
    """`release`: a digest, or a tag, which is resolved now."""

    access_tag: Annotated[Text, Field(min_length=1, max_length=63)]
    release: Annotated[Text, Field(min_length=1, max_length=128)]


class Block(Shape):
    """`running`: what happens to running tasks."""

    reason: Annotated[Text, Field(min_length=1, max_length=MAX_REASON)]
    running: Literal["finish", "stop"] = "finish"


def _moment(value: Any) -> Any:
    # A number would be read as seconds since 1970.
    if isinstance(value, str) and not re.fullmatch(_MOMENT, value):
        raise ValueError("A time in RFC 3339, such as 2026-01-31T00:00:00Z")
    return value


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{_MOMENT}$"}),
]
Name = Annotated[str, Field(max_length=300, pattern=r"^[ -~]*$")]


class AuditFilter(Shape):
    since: Moment | None = None
    until: Moment | None = None
    event: Name | None = None
    actor: Name | None = None
    subject: Name | None = None

    def names(self) -> dict[str, str]:
        """The conditions on entries."""
        found = {"event": self.event, "actor": self.actor, "subject": self.subject}
        return {name: value for name, value in found.items() if value is not None}


class AuditEntry(Shape):
    """`actor`: user:KEY, node:NAME, operator or instance. `subject`: a kind and a key, such as app:roads."""

    id: str
    at: Time
    event: str
    actor: str
    subject: str
    details: dict[str, Any]
    request: str | None
    address: str | None


class AuditAnswer(Shape):
    entries: list[AuditEntry]
    next: str = ""


class Polygon(Shape):
    type: Literal["Polygon"]
    coordinates: list[list[tuple[float, float]]]


class MultiPolygon(Shape):
    type: Literal["MultiPolygon"]
    coordinates: list[list[list[tuple[float, float]]]]


class ExportFile(Shape):
    """`bounds` and `geom` (WKT) are in the CRS that `crs` (WKT 2), `crs_name` and `crs_code` name; `geojson`
    is the footprint in WGS 84, or null if its place is not known.
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
    crs_name: str
    crs_code: str
    geom: str
    geojson: Annotated[Polygon | MultiPolygon, Field(discriminator="type")] | None
    returns: list[int] | None
    gps_time: tuple[float, float] | None
    remarks: list[str]


class Export(Shape):
    pk: str
    name: str
    user: str
    created_at: Time
    notes: str
    exportfiles: list[ExportFile]


class ExportChanges(Shape):
    name: Annotated[Text, Field(min_length=1, max_length=MAX_NAME)]


class ExportsAnswer(Shape):
    exports: list[Export]
    next: str = ""


class Task(Shape):
    """A run as GRiD v3 shows it. `object_id` is the export's key."""

    task_id: str
    name: Literal["runs.tasks.run_app"]
    state: State
    time_stamp: Time
    object_id: int


class TasksAnswer(Shape):
    tasks: list[Task]
    next: str = ""


class Certificate(Shape):
    serial: str
    name: str
    fingerprint: str
    not_before: Time
    not_after: Time
    created_at: Time
    revoked_at: Time | None
    state: Literal["valid", "expired", "revoked"]


class CertificatesAnswer(Shape):
    certificates: list[Certificate]
    next: str = ""


class CertificateRequest(Shape):
    name: Annotated[Text, Field(min_length=1, max_length=100)]
    csr: (
        Annotated[Text, Field(max_length=16_384, description="PEM; without it a key is generated")] | None
    ) = None


class IssuedAnswer(Shape):
    """`key` is present only if the instance generated it, and is never shown again."""

    certificate: Certificate
    pem: str
    key: str = ""
    ca: str
    authority: str
