"""Reads: hooks and their deliveries."""

from django.db.models import QuerySet

from gridapps.access.models import User
from gridapps.hooks.models import Delivery, Hook


def visible_to(user: User) -> QuerySet[Hook]:
    """The hooks that this user may see: the user's own, including those of single runs."""
    return Hook.objects.filter(owner=user.pk).select_related("owner")


def deliveries(hook: Hook) -> QuerySet[Delivery]:
    """The deliveries of a hook, newest first."""
    return hook.deliveries.order_by("-pk")
