"""Reads: who sees which App, and who may run it. The one place that decides either."""

from collections.abc import Iterable

from django.db.models import QuerySet

from gridapps.access.models import User
from gridapps.registry.errors import AppNotFound
from gridapps.registry.models import App, Release


def owned_by(user: User) -> QuerySet[App]:
    """The Apps that this user may change."""
    return App.objects.filter(owner=user.pk, deleted_at__isnull=True).select_related("owner")


def runnable_by(user: User) -> QuerySet[App]:
    """The Apps that this user may run: the user's own."""
    return owned_by(user)


def visible_to(user: User) -> QuerySet[App]:
    """The Apps that this user may see: those the user may run, and for administrators every one."""
    if user.is_superuser:
        return App.objects.filter(deleted_at__isnull=True).select_related("owner")
    return runnable_by(user)


def releases_visible_to(user: User, app: App) -> QuerySet[Release]:
    """The releases of an App, refused ones as well, for its owner and administrators.

    Raises AppNotFound for everybody else.
    """
    if not (user.is_superuser or app.owner_id == user.pk):
        raise AppNotFound(f"There is no App {app.app_id!r} of yours.")
    return app.releases.prefetch_related("tags").order_by("-pushed_at", "-pk")


def newest_releases(apps: Iterable[App]) -> dict[int, str]:
    """The digest of the newest valid release by primary key of App; Apps without one are absent."""
    valid = Release.objects.filter(app__in=[app.pk for app in apps], state=Release.State.VALID)
    rows = valid.order_by("pushed_at", "pk").values_list("app_id", "digest")
    return dict(rows)
