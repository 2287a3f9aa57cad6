"""Reads: who sees which App, who may run it, and from where. No other module decides that.

An App is visible to its owner and to holders of the access tags with which a release of it is shared. Owners
run what they pushed. Others run what was shared, as it was at that time, from the trusted registry.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.pki.tokens import Registry
from gridapps.registry.errors import AppNotFound, NotAllowed, NothingToRun, ReleaseNotFound
from gridapps.registry.models import App, Attachment, IndexedManifest, Release, Share

MAX_RELEASES_WITH = 16  # releases to which a document about a part of their indexes is attached


@dataclass(frozen=True)
class ChosenRelease:
    """The release that a run gets, and the source of its terms: the App itself, or the share."""

    release: Release
    terms: App | Share


def owned_by(user: User) -> QuerySet[App]:
    """The Apps that this user may change."""
    return App.objects.filter(owner=user.pk, deleted_at__isnull=True).select_related("owner")


def granted_to(user: User) -> QuerySet[App]:
    """The user's own Apps and those shared with a tag that the user holds, including blocked ones."""
    own = Q(owner=user.pk, deleted_at__isnull=True)
    return App.objects.filter(own | Exists(_grants(user).filter(app=OuterRef("pk")))).select_related("owner")


def runnable_by(user: User) -> QuerySet[App]:
    """The Apps that this user may run: own Apps, and shared ones with a release that is not blocked."""
    own = Q(owner=user.pk, deleted_at__isnull=True)
    shared = Exists(_grants(user).filter(app=OuterRef("pk"), release__blocked_at__isnull=True))
    allowed = App.objects.filter(own | shared, blocked_at__isnull=True)
    return (allowed if user.is_active else allowed.none()).select_related("owner")


def visible_to(user: User) -> QuerySet[App]:
    """The Apps that this user may see: those of `granted_to`, or for administrators all.

    Administrators also see a deleted App if a release of it was ever shared.
    """
    if permissions.is_administrator(user):
        shared = Exists(Share.objects.filter(app=OuterRef("pk")))
        return App.objects.filter(Q(deleted_at__isnull=True) | shared).select_related("owner")
    return granted_to(user)


def grants(user: User, apps: Iterable[App]) -> dict[int, Share]:
    """By primary key of App, the share that determines what this user sees of it: the newest active one with
    a tag of the user. Apps that the user sees directly (own ones; all for administrators) are absent."""
    foreign = [app.pk for app in apps if not _sees_all(user, app)]
    rows = _grants(user).filter(app__in=foreign).select_related("release")
    # Users see only the reason of a blocked release, so others take precedence.
    ordered = sorted(rows, key=lambda share: (share.release.blocked_at is None, share.activated_at, share.pk))
    return {share.app_id: share for share in ordered}


def owns(user: User, app: App) -> bool:
    """Whether the user may change the App."""
    return permissions.owns(user, app) and app.deleted_at is None


def releases_visible_to(user: User, app: App) -> QuerySet[Release]:
    """The releases of an App, including refused ones, for its owner and administrators.

    Raises AppNotFound for all other users.
    """
    require_owner_or_administrator(user, app)
    return app.releases.prefetch_related("tags", "attachments").order_by("-pushed_at", "-pk")


def shares_visible_to(user: User, app: App) -> QuerySet[Share]:
    """The shares of an App, including ended ones, for its owner and administrators.

    Raises AppNotFound for all other users.
    """
    require_owner_or_administrator(user, app)
    return app.shares.select_related("app", "release", "access_tag", "created_by")


def newest_releases(apps: Iterable[App]) -> dict[int, str]:
    """The digest of the newest valid release, by primary key of App. Apps without one are absent."""
    valid = Release.objects.filter(app__in=[app.pk for app in apps], state=Release.State.VALID)
    rows = valid.order_by("pushed_at", "pk").values_list("app_id", "digest")
    return dict(rows)


def attached(releases: Mapping[int, str]) -> dict[int, list[Attachment]]:
    """The attachments of the releases that `newest_releases` returns, by primary key of App."""
    rows = Attachment.objects.filter(release__app__in=releases, release__digest__in=releases.values())
    found: dict[int, list[Attachment]] = {}
    for row in rows.select_related("release").defer("payload", "signature"):
        if releases[row.release.app_id] == row.release.digest:
            found.setdefault(row.release.app_id, []).append(row)
    return found


def releases_with(app: App, digest: str) -> list[Release]:
    """The valid releases that are this manifest or index, or whose index contains it: the newest of them."""
    valid = app.releases.filter(state=Release.State.VALID)
    indexed = IndexedManifest.objects.filter(release__app=app, digest=digest)
    around = valid.filter(Q(image=digest) | Q(pk__in=indexed.values("release"))).exclude(digest=digest)
    return [*valid.filter(digest=digest), *around.order_by("-pushed_at", "-pk")[:MAX_RELEASES_WITH]]


def attachments_about(app: App, digests: Collection[str]) -> QuerySet[Attachment]:
    """What is attached to these manifests in any valid release of the App, oldest first."""
    rows = Attachment.objects.filter(release__app=app, release__state=Release.State.VALID)
    about = Q(subject__in=digests) | Q(subject="", release__digest__in=digests)
    return rows.filter(about).select_related("release").order_by("pk")


def attachment(user: User, app: App, release: str, digest: str) -> tuple[Mapping[str, Any], Registry]:
    """An attachment of a release that the user sees, and the registry that has it.

    The owner and administrators see all. Holders of an access tag see those that their share keeps. Raises
    ReleaseNotFound.
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
    """The release that this user runs: the one with the digest or, for owners, the tag; or the newest.

    Raises AppNotFound, ReleaseNotFound, NothingToRun, and NotAllowed if it is blocked or was removed.
    """
    app = granted_to(user).filter(app_id=app_id).first() if user.is_active else None
    if app is None:
        raise AppNotFound(f"There is no App {app_id!r} that you may run.")
    _require_not_blocked(app)
    chosen = _own_choice(app, wanted) if owns(user, app) else _shared_choice(user, app, wanted)
    _require_not_blocked(chosen.release)
    return chosen


def source_for(user: User, release: Release) -> Registry:
    """The registry from which this user's run pulls the release, determined just before it starts.

    Raises NotAllowed if the user may no longer run it.
    """
    app = release.app
    _require_not_blocked(app)
    _require_not_blocked(release)
    if not user.is_active:
        raise NotAllowed("The user's account is no longer active.")
    if owns(user, app):
        _require_not_removed(release)
        return Registry.DEVELOPER
    if _grants(user).filter(release=release).exists():
        return Registry.TRUSTED
    if permissions.owns(user, app):
        _require_not_removed(release)
        return Registry.DEVELOPER  # the run was queued when its App was deleted
    raise NotAllowed("The release is no longer shared with an access tag of yours.")


def require_owner_or_administrator(user: User, app: App) -> None:
    """Raise AppNotFound unless the user is the App's owner or an administrator."""
    if not _sees_all(user, app):
        raise AppNotFound(f"You have no App {app.app_id!r}.")


def blocked_sentence(thing: App | Release) -> str:
    """What users read about a block; empty if there is none."""
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
        if share is None:  # it was revoked meanwhile
            raise AppNotFound(f"There is no App {app.app_id!r} that you may run.")
    return ChosenRelease(share.release, share)


def _require_not_blocked(thing: App | Release) -> None:
    if thing.blocked_at is not None:
        raise NotAllowed(blocked_sentence(thing))


def _require_not_removed(release: Release | None) -> None:
    if release is not None and release.state == Release.State.REMOVED:
        raise NotAllowed(" ".join(release.reasons))
