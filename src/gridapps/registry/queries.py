"""Reads: who sees which App, who may run it, and from where. No other module decides that.

An App is its owner's, and the holders' of the access tags that a release of it is shared with. Owners run
what they pushed; everybody else runs what was shared, as it was shared, from the trusted registry.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.pki.tokens import Registry
from gridapps.registry.errors import AppNotFound, NotAllowed, NothingToRun, ReleaseNotFound
from gridapps.registry.models import App, Attachment, Release, Share


@dataclass(frozen=True)
class ChosenRelease:
    """The release that a run gets, and what says what it takes: the App itself, or the share."""

    release: Release
    terms: App | Share


def owned_by(user: User) -> QuerySet[App]:
    """The Apps that this user may change."""
    return App.objects.filter(owner=user.pk, deleted_at__isnull=True).select_related("owner")


def granted_to(user: User) -> QuerySet[App]:
    """The Apps that are the user's own or shared with a tag that the user holds, blocked ones as well."""
    own = Q(owner=user.pk, deleted_at__isnull=True)
    return App.objects.filter(own | Exists(_grants(user).filter(app=OuterRef("pk")))).select_related("owner")


def runnable_by(user: User) -> QuerySet[App]:
    """The Apps that this user may run: own ones, and shared ones with a release that is not blocked."""
    own = Q(owner=user.pk, deleted_at__isnull=True)
    shared = Exists(_grants(user).filter(app=OuterRef("pk"), release__blocked_at__isnull=True))
    allowed = App.objects.filter(own | shared, blocked_at__isnull=True)
    return (allowed if user.is_active else allowed.none()).select_related("owner")


def visible_to(user: User) -> QuerySet[App]:
    """The Apps that this user may see: those of `granted_to`, and for administrators every one.

    A deleted App is still there for administrators once a release of it was shared.
    """
    if permissions.is_administrator(user):
        shared = Exists(Share.objects.filter(app=OuterRef("pk")))
        return App.objects.filter(Q(deleted_at__isnull=True) | shared).select_related("owner")
    return granted_to(user)


def grants(user: User, apps: Iterable[App]) -> dict[int, Share]:
    """By primary key of App the share that says what this user sees of it: the newest active one among the
    user's tags. Apps of the user's own, and for administrators all, are absent: they are seen themselves."""
    foreign = [app.pk for app in apps if not _sees_all(user, app)]
    rows = _grants(user).filter(app__in=foreign).select_related("release")
    # Of what is blocked only the reason is left, so anything else comes first.
    ordered = sorted(rows, key=lambda share: (share.release.blocked_at is None, share.activated_at, share.pk))
    return {share.app_id: share for share in ordered}


def owns(user: User, app: App) -> bool:
    """Whether the App is the user's to change."""
    return permissions.owns(user, app) and app.deleted_at is None


def releases_visible_to(user: User, app: App) -> QuerySet[Release]:
    """The releases of an App, refused ones as well, for its owner and administrators.

    Raises AppNotFound for everybody else.
    """
    require_owner_or_administrator(user, app)
    return app.releases.prefetch_related("tags", "attachments").order_by("-pushed_at", "-pk")


def shares_visible_to(user: User, app: App) -> QuerySet[Share]:
    """The shares of an App, also those that are over, for its owner and administrators.

    Raises AppNotFound for everybody else.
    """
    require_owner_or_administrator(user, app)
    return app.shares.select_related("app", "release", "access_tag", "created_by")


def newest_releases(apps: Iterable[App]) -> dict[int, str]:
    """The digest of the newest valid release by primary key of App; Apps without one are absent."""
    valid = Release.objects.filter(app__in=[app.pk for app in apps], state=Release.State.VALID)
    rows = valid.order_by("pushed_at", "pk").values_list("app_id", "digest")
    return dict(rows)


def attached(releases: Mapping[int, str]) -> dict[int, list[Attachment]]:
    """What is attached to the releases that `newest_releases` gives, by primary key of App."""
    rows = Attachment.objects.filter(release__app__in=releases, release__digest__in=releases.values())
    found: dict[int, list[Attachment]] = {}
    for row in rows.select_related("release").defer("payload", "signature"):
        if releases[row.release.app_id] == row.release.digest:
            found.setdefault(row.release.app_id, []).append(row)
    return found


def attachment(user: User, app: App, release: str, digest: str) -> tuple[Mapping[str, Any], Registry]:
    """One attachment of a release that the user sees, and the registry that has it.

    Owner and administrators see all; holders of an access tag what was kept with the share that they run.
    Raises ReleaseNotFound.
    """
    of_release = Share.objects.filter(app=app, release__digest=release, activated_at__isnull=False)
    sees_all = _sees_all(user, app)
    for share in of_release if sees_all else _grants(user).filter(pk__in=of_release):
        for kept in share.attachments:
            if kept["digest"] == digest:
                return kept, Registry.TRUSTED
    rows = Attachment.objects.filter(release__app=app, release__digest=release, digest=digest)
    row = rows.values("kind", "digest", "size").first() if sees_all else None
    if row is None:
        raise ReleaseNotFound("There is no such attachment.")
    return row, Registry.DEVELOPER


def choose_release(user: User, app_id: str, wanted: str | None) -> ChosenRelease:
    """What a run of this App by this user runs: the digest named (an owner may name a tag), or the newest.

    Raises AppNotFound, ReleaseNotFound, NothingToRun, and NotAllowed for what is blocked or was removed.
    """
    app = granted_to(user).filter(app_id=app_id).first() if user.is_active else None
    if app is None:
        raise AppNotFound(f"There is no App {app_id!r} that you may run.")
    _require_not_blocked(app)
    chosen = _own_choice(app, wanted) if owns(user, app) else _shared_choice(user, app, wanted)
    _require_not_blocked(chosen.release)
    return chosen


def source_for(user: User, release: Release) -> Registry:
    """Where this user's run of the release pulls it from, asked when it is about to start.

    Raises NotAllowed with a sentence when the user may not run it any more.
    """
    app = release.app
    _require_not_blocked(app)
    _require_not_blocked(release)
    if not user.is_active:
        raise NotAllowed("The user's account is not active any more.")
    if owns(user, app):
        _require_not_removed(release)
        return Registry.DEVELOPER
    if _grants(user).filter(release=release).exists():
        return Registry.TRUSTED
    if permissions.owns(user, app):
        _require_not_removed(release)
        return Registry.DEVELOPER  # a run that stood in the queue when its App was deleted
    raise NotAllowed("The release is not shared with an access tag of yours any more.")


def require_owner_or_administrator(user: User, app: App) -> None:
    """Raise AppNotFound for everybody but the App's owner and administrators."""
    if not _sees_all(user, app):
        raise AppNotFound(f"There is no App {app.app_id!r} of yours.")


def blocked_sentence(thing: App | Release) -> str:
    """What users read of a block; empty without one."""
    if thing.blocked_at is None:
        return ""
    what = "App" if isinstance(thing, App) else "release"
    return f"An administrator has blocked this {what}: {thing.blocked_reason}"


def _sees_all(user: User, app: App) -> bool:
    return permissions.is_administrator(user) or owns(user, app)


def _grants(user: User) -> QuerySet[Share]:
    """The active shares with the tags that the user holds."""
    return Share.objects.filter(state=Share.State.ACTIVE, access_tag__holders=user.pk)


def _own_choice(app: App, wanted: str | None) -> ChosenRelease:
    valid = app.releases.filter(state=Release.State.VALID)
    if wanted is None:
        found = valid.order_by("-pushed_at", "-pk").filter(blocked_at__isnull=True).first() or valid.first()
        if found is None:
            raise NothingToRun(f"The App {app.app_id} has no valid release yet: push an image first.")
    else:
        found = valid.filter(digest=wanted).first() or valid.filter(tags__name=wanted, tags__app=app).first()
        if found is None:
            _require_not_removed(app.releases.filter(digest=wanted).first())
            raise ReleaseNotFound(f"The App {app.app_id} has no valid release {wanted!r}.")
    return ChosenRelease(found, app)


def _shared_choice(user: User, app: App, wanted: str | None) -> ChosenRelease:
    shares = _grants(user).filter(app=app).select_related("release").order_by("-activated_at", "-pk")
    if wanted is not None:
        share = shares.filter(release__digest=wanted).first()
        if share is None:
            raise ReleaseNotFound(f"No release {wanted!r} of the App {app.app_id} is shared with you.")
    else:
        share = shares.filter(release__blocked_at__isnull=True).first() or shares.first()
        if share is None:  # it was revoked since
            raise AppNotFound(f"There is no App {app.app_id!r} that you may run.")
    return ChosenRelease(share.release, share)


def _require_not_blocked(thing: App | Release) -> None:
    if thing.blocked_at is not None:
        raise NotAllowed(blocked_sentence(thing))


def _require_not_removed(release: Release | None) -> None:
    if release is not None and release.state == Release.State.REMOVED:
        raise NotAllowed(" ".join(release.reasons))
