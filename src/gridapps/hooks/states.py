"""The states of deliveries, as data. docs/states.md is generated from this table."""

from django.db.models import TextChoices

from gridapps.moves import Moves


class DeliveryState(TextChoices):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


DELIVERY_MOVES: Moves[DeliveryState] = {
    DeliveryState.WAITING: frozenset({DeliveryState.DELIVERED, DeliveryState.FAILED}),
    DeliveryState.DELIVERED: frozenset(),
    DeliveryState.FAILED: frozenset(),
}
