"""Which releases keep their images in the developer registry, and giving up the others.

A release stays for ever, because runs name it; its image goes when nothing needs it any more. Pushing it
again brings it back. What lies in the registry is removed afterwards, by `sweeping`.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from gridapps.audit import record
from gridapps.registry.models import App, Release, Share

# The releases that runs need: those that wait or run, and those that were submitted since a moment.
Used = Callable[[datetime], QuerySet[Release]]
log = logging.getLogger(__name__)


def retire(*, used: Used, dry_run: bool = False) -> list[Release]:
    """Give up the images that the policy does not keep; their releases.

    Of an App these stay: the newest releases; what was pushed, or ran, within the days that the settings say;
    what is shared, and what runs or waits to run. Of a deleted App only the last two. A tag keeps nothing.
    """
    apps = App.objects.filter(releases__state=Release.State.VALID).distinct().order_by("app_id")
    return [
        release
        for app in apps
        for release in _unneeded(app, used).select_related("app")
        if dry_run or _give_up(release, used)
    ]


def _unneeded(app: App, used: Used) -> QuerySet[Release]:
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
    return valid.exclude(Exists(shared)).exclude(pk__in=used(since).values("pk")).order_by("pushed_at", "pk")


def _give_up(release: Release, used: Used) -> bool:
    """Unless it is needed by now: pushes and shares take the App's lock too, and a new run the release's."""
    with transaction.atomic():
        app = App.objects.select_for_update().get(pk=release.app_id)
        Release.objects.select_for_update().get(pk=release.pk)
        if not _unneeded(app, used).filter(pk=release.pk).exists():
            return False
        now = timezone.now()
        release.state, release.removed_at = Release.State.REMOVED, now
        release.reasons = [_why(app, now)]
        release.save(update_fields=["state", "removed_at", "reasons"])
        release.tags.all().delete()
        release.attachments.all().delete()  # what they say lies beside the image, and goes with it
        record.release_removed(release=str(release), reason=release.reasons[0])
    log.info("The image of %s was given up", release)
    return True


def _why(app: App, now: datetime) -> str:
    if app.deleted_at is not None:
        return f"The image was removed on {now:%Y-%m-%d}, after its App was deleted."
    return (
        f"The image was removed by the retention policy on {now:%Y-%m-%d}; push it again to run or share it."
    )
