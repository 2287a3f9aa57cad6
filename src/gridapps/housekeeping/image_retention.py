"""Which releases keep their images in the developer registry.

A release stays, because runs name it; its image is removed when nothing needs it any more. Pushing it again
brings it back. This marks the releases; `sweeping` removes the images from the registry.
"""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from gridapps.audit import record
from gridapps.registry.models import App, Release, Share
from gridapps.runs.queries import releases_used

log = logging.getLogger(__name__)


def plan() -> list[Release]:
    """The releases whose images the policy does not keep.

    Of an App these stay: the newest releases; what was pushed, or ran, within the days that the settings say;
    what is shared, and what runs or waits to run. Of a deleted App only the last two. A tag keeps nothing.
    """
    apps = App.objects.filter(releases__state=Release.State.VALID).distinct().order_by("app_id")
    return [release for app in apps for release in _unneeded(app).select_related("app")]


def retire() -> list[Release]:
    """Give up the images of the releases of `plan`; the releases."""
    return [release for release in plan() if _give_up(release)]


def _unneeded(app: App) -> QuerySet[Release]:
    valid = app.releases.filter(state=Release.State.VALID)
    now, days = timezone.now(), settings.GRIDAPPS.keep_unshared
    if app.deleted_at is not None:
        since = now
    elif days:
        since = now - timedelta(days=days)
        newest = valid.order_by("-pushed_at", "-pk").values_list("pk", flat=True)
        kept = list(newest[: settings.GRIDAPPS.keep_releases])
        valid = valid.filter(pushed_at__lt=since).exclude(pk__in=kept)
    else:
        return valid.none()
    shared = Share.objects.filter(release=OuterRef("pk"), state__in=Share.OPEN)
    return (
        valid.exclude(Exists(shared))
        .exclude(pk__in=releases_used(since).values("pk"))
        .order_by("pushed_at", "pk")
    )


def _give_up(release: Release) -> bool:
    """Mark it as removed, unless it is needed by now; whether it was marked.

    Pushes and shares take the App's lock too, and a new run the release's.
    """
    with transaction.atomic():
        app = App.objects.select_for_update().get(pk=release.app_id)
        Release.objects.select_for_update().get(pk=release.pk)
        if not _unneeded(app).filter(pk=release.pk).exists():
            return False
        now = timezone.now()
        release.state, release.removed_at = Release.State.REMOVED, now
        release.reasons = [_why(app, now)]
        release.save(update_fields=["state", "removed_at", "reasons"])
        release.tags.all().delete()
        release.indexed_manifests.all().delete()
        release.attachments.all().delete()  # the documents are removed with the image
        record.release_removed(release=str(release), reason=release.reasons[0])
    log.info("The image of %s was given up", release)
    return True


def _why(app: App, now: datetime) -> str:
    if app.deleted_at is not None:
        return f"The image was removed on {now:%Y-%m-%d}, after its App was deleted."
    return (
        f"The image was removed by the retention policy on {now:%Y-%m-%d}; push it again to run or share it."
    )
