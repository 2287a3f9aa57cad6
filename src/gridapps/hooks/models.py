"""Hooks, and the outbox of events for them."""

import uuid

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from gridapps.hooks import sealing
from gridapps.hooks.events import Event
from gridapps.hooks.states import DeliveryState


class Hook(models.Model):
    """A webhook subscription: the instance POSTs signed events to a target URL."""

    owner = models.ForeignKey(get_user_model(), on_delete=models.CASCADE, related_name="hooks")
    target = models.CharField(max_length=1000, help_text="URL that events are POSTed to")
    site = models.CharField(max_length=270, help_text="scheme, host and port of the target")
    events = models.JSONField(help_text="names of the events")
    sealed_secret = models.TextField(db_column="secret", help_text="key of the signatures, encrypted")
    active = models.BooleanField(default=True)
    run = models.UUIDField(null=True, help_text="the only run that it is for; empty: for all")
    done_at = models.DateTimeField(null=True, help_text="when its run ended")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("pk",)
        indexes = [models.Index(name="hook_by_owner", fields=["owner", "run"])]

    def __str__(self) -> str:
        return f"{self.pk} {self.site}"

    @property
    def secret(self) -> str:
        """The key of the signatures. Only processes that have the instance's key can read it."""
        return sealing.opened(self.sealed_secret)

    @secret.setter
    def secret(self, secret: str) -> None:
        self.sealed_secret = sealing.sealed(secret)


class Delivery(models.Model):
    """One event for one hook."""

    State = DeliveryState

    key = models.UUIDField(unique=True, default=uuid.uuid4, help_text="the same for all tries")
    hook = models.ForeignKey(Hook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=20, choices=[(event.value, event.value) for event in Event])
    subject = models.CharField(
        max_length=50, help_text="a kind and a key; events of one subject keep their order"
    )
    facts = models.JSONField()
    state = models.CharField(max_length=9, choices=State, default=State.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    due_at = models.DateTimeField(db_default=Now(), help_text="of the next try")
    token = models.UUIDField(null=True, help_text="fence: of the courier that tries it now")
    lease_until = models.DateTimeField(null=True, help_text="on the database's clock")
    tried_at = models.DateTimeField(null=True, help_text="the last try")
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status of the last answer")
    error = models.CharField(max_length=300, blank=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("pk",)
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(name="delivery_due", fields=["due_at", "id"], condition=Q(state="waiting")),
            models.Index(
                name="delivery_order", fields=["hook", "subject", "id"], condition=Q(state="waiting")
            ),
            models.Index(name="delivery_flying", fields=["lease_until"], condition=Q(token__isnull=False)),
            models.Index(name="delivery_pace", fields=["hook", "event", "subject", "created_at"]),
            models.Index(name="delivery_settled", fields=["settled_at"]),
        ]
        constraints = [
            models.CheckConstraint(
                name="delivery_settled_exactly_when_not_waiting",
                condition=Q(state="waiting", settled_at__isnull=True)
                | (~Q(state="waiting") & Q(settled_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="delivery_leased_exactly_with_token",
                condition=Q(token__isnull=True, lease_until__isnull=True)
                | Q(token__isnull=False, lease_until__isnull=False, state="waiting"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.key}"
