"""Reads: one's hooks, and what became of their deliveries."""

from django.db.models import QuerySet

from gridapps.access.models import User
from gridapps.hooks.models import Delivery, Hook


def visible_to(user: User) -> QuerySet[Hook]:
    """The hooks that this user may see: their own, those of single runs as well."""
    return Hook.objects.filter(owner=user.pk).select_related("owner")


def deliveries(hook: Hook) -> QuerySet[Delivery]:
    """What is to be told and what was, the newest first."""
    return hook.deliveries.order_by("-pk")
