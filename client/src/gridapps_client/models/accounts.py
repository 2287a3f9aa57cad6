"""Users, developers, client certificates and hooks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


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
