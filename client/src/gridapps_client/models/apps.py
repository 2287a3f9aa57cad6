"""Apps, their releases, counts and shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


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
