"""The writes of administrators: share and revoke, block and unblock."""

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from gridapps.access import permissions
from gridapps.access.models import AccessTag, User
from gridapps.access.names import is_line
from gridapps.audit import record
from gridapps.moves import move
from gridapps.registry import kept_attachments
from gridapps.registry.errors import AppNotFound, InvalidShare, NotShareable, ReleaseNotFound, ShareNotFound
from gridapps.registry.models import App, Release, Share
from gridapps.registry.states import SHARE_MOVES
from gridapps.sandbox.resources import LEAST
from gridapps.sandbox.resources import faults as bounds

MAX_REASON = 500  # characters
SNAPSHOT = ("title", "description", "arguments", "cpus", "memory", "disk", "time")


def share(*, by: User, app_id: str, release: str, access_tag: str) -> tuple[Share, bool]:
    """Share a release (a digest or tag) with the holders of an access tag.

    Returns the share and whether it is new. It becomes active, and the release runnable, after the promoter
    has copied the image. An open share of the same release with the same tag is returned unchanged. Raises
    NotAnAdministrator, AppNotFound, InvalidShare, NotShareable.
    """
    permissions.require_administrator(by)
    with transaction.atomic():
        app = _locked(app_id)
        if app.deleted_at is not None:
            raise NotShareable(f"The App {app.app_id} was deleted by its owner.")
        chosen = _release(app, release)
        tag = AccessTag.objects.filter(name=access_tag).first()
        if tag is None:
            text = f"There is no access tag {access_tag[:100]!r}."
            raise InvalidShare(text, [("/access_tag", text)])
        open_share = chosen.shares.filter(access_tag=tag, state__in=Share.OPEN).first()
        if open_share is not None:
            return open_share, False
        _require_sound(app, chosen)
        _require_resources(app)
        attached = kept_attachments.verify(chosen)
        kept = {name: getattr(app, name) for name in SNAPSHOT}
        new = Share(
            app=app,
            release=chosen,
            access_tag=tag,
            created_by=by,
            size=chosen.size,
            attachments=attached,
            **kept,
        )
        try:
            with transaction.atomic():
                new.save(force_insert=True)
                record.share_created(by=by, share=new)
        except IntegrityError:  # another administrator created it at the same time
            return chosen.shares.get(access_tag=tag, state__in=Share.OPEN), False
        return new, True


def _require_resources(app: App) -> None:
    """Raise NotShareable if the App, which may predate the limits, asks for resources that no run gets."""
    wanted = {name: getattr(app, name) for name in LEAST}
    faults = bounds(wanted, most=settings.GRIDAPPS.limits())
    if faults:
        text = " ".join(f"{name}: {sentence}" for name, sentence in faults)
        raise NotShareable(
            f"The App {app.app_id} requests resources that this instance does not provide. {text}"
        )


def revoke(*, by: User, app_id: str, pk: int) -> None:
    """Revoke a share. Queued runs of its holders no longer start; running ones continue. Idempotent.

    Raises NotAnAdministrator, ShareNotFound.
    """
    permissions.require_administrator(by)
    found = Share.objects.filter(pk=pk, app__app_id=app_id)
    with transaction.atomic():
        if move(found, Share.State.REVOKED, SHARE_MOVES, ended_at=timezone.now(), ended_by=by, reason=""):
            record.share_revoked(by=by, share=found.get())
            return
    if not found.exists():
        raise ShareNotFound("There is no such share of this App.")


def block(*, by: User, app_id: str, release: str | None = None, reason: str) -> App | Release:
    """Block an App or one of its releases: from now on no run of it starts, for any user.

    Raises NotAnAdministrator, AppNotFound, ReleaseNotFound, InvalidShare.
    """
    permissions.require_administrator(by)
    kept = checked_reason(reason)
    with transaction.atomic():
        blocked = _set_block(app_id, release, blocked_at=timezone.now(), blocked_by=by, blocked_reason=kept)
        record.block_set(by=by, subject=subject_of(blocked), reason=kept)
    return blocked


def unblock(*, by: User, app_id: str, release: str | None = None) -> App | Release:
    """Remove the block. Raises NotAnAdministrator, AppNotFound, ReleaseNotFound."""
    permissions.require_administrator(by)
    with transaction.atomic():
        unblocked = _set_block(app_id, release, blocked_at=None, blocked_by=None, blocked_reason="")
        record.block_lifted(by=by, subject=subject_of(unblocked))
    return unblocked


def subject_of(thing: App | Release) -> str:
    """The subject of an App or release in the audit."""
    return f"{'app' if isinstance(thing, App) else 'release'}:{thing}"


def checked_reason(reason: str) -> str:
    """The reason as stored. Raises InvalidShare unless it is one printable line."""
    reason = reason.strip()
    if not is_line(reason, longest=MAX_REASON):
        text = f"One line of 1 to {MAX_REASON} characters, which users will read."
        raise InvalidShare("The reason is invalid.", [("/reason", text)])
    return reason


def _set_block(app_id: str, release: str | None, **values: object) -> App | Release:
    with transaction.atomic():
        app = _locked(app_id)
        thing: App | Release = app
        if release is not None:
            found = app.releases.filter(digest=release).first()
            if found is None:
                raise ReleaseNotFound(
                    f"The App {app.app_id} has no release {release[:100]!r}. A block names it by its digest."
                )
            thing = found
        for name, value in values.items():
            setattr(thing, name, value)
        thing.save(update_fields=list(values))
    return thing


def _locked(app_id: str) -> App:
    app = App.objects.select_for_update(of=("self",)).filter(app_id=app_id).first()
    if app is None:
        raise AppNotFound(f"There is no App {app_id[:100]!r}.")
    return app


def _release(app: App, wanted: str) -> Release:
    found = (
        app.releases.filter(digest=wanted).first()
        or app.releases.filter(tags__name=wanted, tags__app=app).first()
    )
    if found is None:
        text = f"The App {app.app_id} has no release {wanted[:150]!r}."
        raise InvalidShare(text, [("/release", text)])
    return found


def _require_sound(app: App, release: Release) -> None:
    if release.state != Release.State.VALID:
        raise NotShareable(f"The release was {release.state}: {' '.join(release.reasons)}")
    for what, thing in (("App", app), ("release", release)):
        if thing.blocked_at is not None:
            raise NotShareable(f"The {what} is blocked: {thing.blocked_reason}")
