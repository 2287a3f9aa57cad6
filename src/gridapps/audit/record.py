"""One function for each event of the audit, named after it. Call it in the transaction that it records.

`by` is the actor (`trail.Actor`), the first other parameter the subject. Users are recorded by key.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gridapps.audit import trail
from gridapps.audit.models import Entry
from gridapps.audit.trail import INSTANCE, Actor, Keyed, add, add_once

Event = Entry.Event


class Shared(Protocol):
    """A share, as far as the audit needs to know one."""

    @property
    def pk(self) -> object:
        """Its key."""

    @property
    def release(self) -> object:
        """What is shared; as text `APP@DIGEST`."""

    @property
    def access_tag(self) -> object:
        """With whose holders; as text the name."""


# Users


def user_created(*, by: Actor, user: Keyed, administrator: bool) -> None:
    add(Event.USER_CREATED, by, _user(user), administrator=administrator)


def user_retired(*, by: Actor, user: Keyed, tags: Sequence[str]) -> None:
    """`tags`: the access tags that were taken."""
    add(Event.USER_RETIRED, by, _user(user), tags=tags)


def user_logged_in(*, user: Keyed) -> None:
    add(Event.USER_LOGGED_IN, user, _user(user))


def user_login_failed(*, user: Keyed) -> None:
    """Once per period."""
    add_once(Event.USER_LOGIN_FAILED, user, _user(user))


def user_password_changed(*, by: Actor, user: Keyed) -> None:
    add(Event.USER_PASSWORD_CHANGED, by, _user(user))


def token_revoked(*, user: Keyed, scopes: Sequence[str]) -> None:
    add(Event.TOKEN_REVOKED, user, _user(user), scopes=scopes)


def device_allowed(*, user: Keyed, scopes: Sequence[str], terminal: str | None) -> None:
    """`terminal`: the address of the login that the user allowed."""
    add(Event.DEVICE_ALLOWED, user, _user(user), scopes=scopes, terminal=terminal)


def device_refused(*, user: Keyed, scopes: Sequence[str], terminal: str | None) -> None:
    """`terminal`: the address of the login that the user refused."""
    add(Event.DEVICE_REFUSED, user, _user(user), scopes=scopes, terminal=terminal)


def token_issued(
    *, by: Actor, user: Keyed, scopes: Sequence[str], expires: datetime, application: int | None = None
) -> None:
    """`application`: the key of the application that asked for it, if one did."""
    details = {} if application is None else {"application": application}
    add(Event.TOKEN_ISSUED, by, _user(user), scopes=scopes, expires=expires.isoformat(), **details)


def application_registered(
    *, by: Actor, application: int, application_kind: str, scopes: Sequence[str]
) -> None:
    subject = f"application:{application}"
    add(Event.APPLICATION_REGISTERED, by, subject, application_kind=application_kind, scopes=scopes)


def application_deleted(*, by: Actor, application: int) -> None:
    add(Event.APPLICATION_DELETED, by, f"application:{application}")


# Developers and certificates


def developer_requested(*, user: Keyed) -> None:
    add(Event.DEVELOPER_REQUESTED, user, _user(user))


def developer_verified(*, by: Actor, user: Keyed) -> None:
    add(Event.DEVELOPER_VERIFIED, by, _user(user))


def developer_refused(*, by: Actor, user: Keyed) -> None:
    add(Event.DEVELOPER_REFUSED, by, _user(user))


def certificate_issued(*, by: Actor, certificate: str, holder: Keyed) -> None:
    """`certificate`: its serial number."""
    add(Event.CERTIFICATE_ISSUED, by, f"certificate:{certificate}", holder=_user(holder))


def certificate_revoked(*, by: Actor, certificate: str, holder: Keyed) -> None:
    """`certificate`: its serial number."""
    add(Event.CERTIFICATE_REVOKED, by, f"certificate:{certificate}", holder=_user(holder))


def node_certificate_issued(*, by: Actor, node: str, serial: str) -> None:
    add(Event.NODE_CERTIFICATE_ISSUED, by, f"node:{node}", serial=serial)


def node_certificate_revoked(*, by: Actor, node: str, revoked: int) -> None:
    """`revoked`: how many certificates were valid until now."""
    add(Event.NODE_CERTIFICATE_REVOKED, by, f"node:{node}", revoked=revoked)


# Access tags


def tag_created(*, by: Actor, tag: str) -> None:
    add(Event.TAG_CREATED, by, f"tag:{tag}")


def tag_given(*, by: Actor, tag: str, user: Keyed) -> None:
    add(Event.TAG_GIVEN, by, f"tag:{tag}", user=_user(user))


def tag_taken(*, by: Actor, tag: str, user: Keyed) -> None:
    add(Event.TAG_TAKEN, by, f"tag:{tag}", user=_user(user))


def tag_deleted(*, by: Actor, tag: str, users: Sequence[Keyed]) -> None:
    """`users`: its holders."""
    add(Event.TAG_DELETED, by, f"tag:{tag}", users=[_user(user) for user in users])


# Apps and releases. A release is named `APP@DIGEST`, a certificate by its serial number.


def app_created(*, by: Actor, app: str) -> None:
    add(Event.APP_CREATED, by, f"app:{app}")


def app_changed(*, by: Actor, app: str, changed: Sequence[str]) -> None:
    """`changed`: names of fields."""
    add(Event.APP_CHANGED, by, f"app:{app}", changed=changed)


def app_deleted(*, by: Actor, app: str) -> None:
    add(Event.APP_DELETED, by, f"app:{app}")


def release_pushed(*, by: Actor, release: str, tag: str, certificate: str) -> None:
    add(Event.RELEASE_PUSHED, by, f"release:{release}", tag=tag, certificate=certificate)


def release_refused(*, by: Actor, release: str, tag: str, certificate: str, reasons: Sequence[str]) -> None:
    """Once per period."""
    add_once(
        Event.RELEASE_REFUSED, by, f"release:{release}", at_most=trail.MAX_REFUSED,
        reasons=reasons, tag=tag, certificate=certificate,
    )  # fmt: skip


def attachment_pushed(
    *,
    by: Actor,
    release: str,
    manifest: str,
    kinds: Sequence[str],
    verified_by: Sequence[str],
    certificate: str,
) -> None:
    """`manifest`: its digest. `verified_by`: names of the known keys that verified a signature."""
    add(
        Event.ATTACHMENT_PUSHED, by, f"release:{release}",
        manifest=manifest, kinds=kinds, certificate=certificate, verified_by=verified_by,
    )  # fmt: skip


def attachment_refused(*, by: Actor, release: str, reasons: Sequence[str], certificate: str) -> None:
    """Once per period."""
    add_once(
        Event.ATTACHMENT_REFUSED, by, f"release:{release}", at_most=trail.MAX_REFUSED,
        reasons=reasons, certificate=certificate,
    )  # fmt: skip


def release_removed(*, release: str, reason: str) -> None:
    """The instance removed its image. `reason`: by which rule."""
    add(Event.RELEASE_REMOVED, INSTANCE, f"release:{release}", reason=reason)


# Shares and blocks


def share_created(*, by: Actor, share: Shared) -> None:
    add(Event.SHARE_CREATED, by, _share(share), **_granted(share))


def share_scanned(*, share: Shared, passed: bool) -> None:
    """The operator's scanner has looked at the copy."""
    add(Event.SHARE_SCANNED, INSTANCE, _share(share), passed=passed, **_granted(share))


def share_activated(*, share: Shared) -> None:
    add(Event.SHARE_ACTIVATED, INSTANCE, _share(share), **_granted(share))


def share_failed(*, share: Shared, reason: str) -> None:
    add(Event.SHARE_FAILED, INSTANCE, _share(share), reason=reason, **_granted(share))


def share_revoked(*, by: Actor, share: Shared) -> None:
    add(Event.SHARE_REVOKED, by, _share(share), **_granted(share))


def block_set(*, by: Actor, subject: str, reason: str) -> None:
    """`subject`: `app:APP` or `release:APP@DIGEST`."""
    add(Event.BLOCK_SET, by, subject, reason=reason)


def block_lifted(*, by: Actor, subject: str) -> None:
    """`subject`: `app:APP` or `release:APP@DIGEST`."""
    add(Event.BLOCK_LIFTED, by, subject)


# Exports and runs


def upload_begun(*, by: Actor, upload: UUID, files: int, size: int) -> None:
    """`files`: how many. `size`: bytes, as announced."""
    add(Event.UPLOAD_BEGUN, by, f"upload:{upload}", files=files, size=size)


def upload_abandoned(*, by: Actor, upload: UUID) -> None:
    add(Event.UPLOAD_ABANDONED, by, f"upload:{upload}")


def export_imported(*, by: Actor, export: int, owner: Keyed, files: int) -> None:
    """`files`: how many."""
    add(Event.EXPORT_IMPORTED, by, f"export:{export}", owner=_user(owner), files=files)


def export_renamed(*, by: Actor, export: int) -> None:
    add(Event.EXPORT_RENAMED, by, f"export:{export}")


def export_deleted(*, by: Actor, export: int, files: int, reason: str | None) -> None:
    """`files`: how many. `reason`: given when it was not the owner who deleted it."""
    details = {} if reason is None else {"reason": reason}
    add(Event.EXPORT_DELETED, by, f"export:{export}", files=files, **details)


def run_submitted(
    *, by: Actor, run: UUID, release: str, export: int, tasks: int, retry_of: UUID | None
) -> None:
    """`tasks`: how many."""
    again = str(retry_of) if retry_of else None
    add(Event.RUN_SUBMITTED, by, f"run:{run}", release=release, export=export, tasks=tasks, retry_of=again)


def run_canceled(*, by: Actor, run: UUID, reason: str | None = None) -> None:
    """`reason`: given when it was not the owner who canceled it."""
    details = {} if reason is None else {"reason": reason}
    add(Event.RUN_CANCELED, by, f"run:{run}", **details)


def run_shown(*, by: Actor, run: UUID, app: str) -> None:
    add(Event.RUN_SHOWN, by, f"run:{run}", app=app)


def run_hidden(*, by: Actor, run: UUID, app: str) -> None:
    add(Event.RUN_HIDDEN, by, f"run:{run}", app=app)


def run_not_allowed(*, run: UUID, sentence: str) -> None:
    """An accepted run did not start; `sentence` says why. Once per period."""
    add_once(Event.RUN_NOT_ALLOWED, INSTANCE, f"run:{run}", sentence=sentence)


def outputs_downloaded(*, by: Actor, run: UUID) -> None:
    """Once per period."""
    add_once(Event.OUTPUTS_DOWNLOADED, by, f"run:{run}")


def log_read(*, by: Actor, run: UUID) -> None:
    """By somebody other than the owner. Once per period."""
    add_once(Event.LOG_READ, by, f"run:{run}")


def outputs_removed(*, by: Actor, run: UUID, outputs: int) -> None:
    """`outputs`: how many."""
    add(Event.OUTPUTS_REMOVED, by, f"run:{run}", outputs=outputs)


# Nodes, refusals, administration


def node_drained(*, by: Actor, node: str) -> None:
    add(Event.NODE_DRAINED, by, f"node:{node}")


def node_undrained(*, by: Actor, node: str) -> None:
    add(Event.NODE_UNDRAINED, by, f"node:{node}")


def refused(*, by: Actor, subject: str, code: str, sentence: str, asked: str | None = None) -> None:
    """A known actor was refused. Call it outside the transaction that was rolled back.

    `subject`: `call:PATH` or `certificate:SERIAL`. `asked`: the path that the certificate asked for.
    """
    details = {} if asked is None else {"asked": asked}
    trail.add_refusal(by, subject, code=code, sentence=sentence, **details)


def administered(*, by: Actor, subject: str, action: str, message: str, values: Mapping[str, object]) -> None:
    """A row was added, changed or deleted in the administration. `values`: new values of its fields."""
    add(Event.ADMINISTERED, by, subject, action=action, message=message, **values)


def _user(user: Keyed) -> str:
    return f"user:{user.pk}"


def _share(share: Shared) -> str:
    return f"share:{share.pk}"


def _granted(share: Shared) -> dict[str, str]:
    return {"release": str(share.release), "access_tag": str(share.access_tag)}
