"""Claiming and settling deliveries, like tasks: a claim is one short transaction, fenced by its token."""

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Value
from django.db.models.functions import Now

from gridapps.hooks.events import Event
from gridapps.hooks.models import Delivery, Hook
from gridapps.hooks.states import DELIVERY_MOVES, DeliveryState
from gridapps.moves import move

PAUSES = (1, 6, 30, 180)  # between the tries, in units of the setting: 10 s, 1 min, 5 min, 30 min
TRIES = len(PAUSES) + 1
PER_SITE = 2  # deliveries at once to one site, so that it is not run over
PER_OWNER = 4  # concurrent deliveries of one user, so that slow targets delay only their owner
KEPT = timedelta(days=7)  # what is settled, to be looked at
PROGRESS_KEPT = timedelta(hours=1)
_MANY = 5000  # rows that one tidying deletes


@dataclass(frozen=True, kw_only=True)
class DeliveryClaim:
    """The right to try one delivery, and all that it takes."""

    pk: int
    token: uuid.UUID
    hook: int
    target: str
    sealed_secret: str
    key: uuid.UUID
    event: str
    created_at: datetime
    facts: dict[str, Any]
    tries: int


def claim(*, lease: timedelta) -> DeliveryClaim | None:
    """Take the delivery that has been due for longest, or None. What belongs together goes in order."""
    with transaction.atomic():
        row = _due()
        if row is None:
            return None
        token = uuid.uuid4()
        Delivery.objects.filter(pk=row.pk).update(
            token=token, lease_until=Now() + Value(lease), tries=F("tries") + 1, tried_at=Now()
        )
        hook = row.hook
        return DeliveryClaim(
            pk=row.pk,
            token=token,
            hook=hook.pk,
            target=hook.target,
            sealed_secret=hook.sealed_secret,
            key=row.key,
            event=row.event,
            created_at=row.created_at,
            facts=row.facts,
            tries=row.tries + 1,
        )


def renew(*, tokens: Iterable[uuid.UUID], lease: timedelta) -> None:
    """Heartbeat of the deliveries that are being tried."""
    Delivery.objects.filter(token__in=list(tokens)).update(lease_until=Now() + Value(lease))


def delivered(*, claim: DeliveryClaim, status: int) -> None:
    """Note that the target took it."""
    _settle(claim, Delivery.State.DELIVERED, status=status, error="")


def given_up(*, claim: DeliveryClaim, error: str) -> None:
    """Note that no try can succeed."""
    _settle(claim, Delivery.State.FAILED, status=None, error=error)


def failed(*, claim: DeliveryClaim, status: int | None, error: str, pause: float) -> None:
    """Note a failed try; there is another one after a pause, unless it was the last."""
    if claim.event == Event.TEST or claim.tries >= TRIES:
        _settle(claim, Delivery.State.FAILED, status=status, error=error[:300])
        return
    wait = timedelta(seconds=PAUSES[claim.tries - 1] * pause)
    Delivery.objects.filter(pk=claim.pk, token=claim.token).update(
        token=None, lease_until=None, status=status, error=error[:300], due_at=Now() + Value(wait)
    )


def gone(*, claim: DeliveryClaim) -> None:
    """Remove the hook: its target said that it is there no more."""
    with transaction.atomic():
        hook = Hook.objects.select_for_update().filter(pk=claim.hook, target=claim.target).first()
        if hook is not None and hook.deliveries.filter(token=claim.token).exists():
            hook.delete()


def tidy() -> None:
    """Delete what was settled long ago, and the hooks of runs that have told all."""
    old = Delivery.objects.filter(settled_at__lt=Now() - Value(KEPT))
    told = Delivery.objects.filter(event=Event.RUN_PROGRESS, settled_at__lt=Now() - Value(PROGRESS_KEPT))
    for rows in (old, told):
        Delivery.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[:_MANY])).delete()
    with transaction.atomic():
        done = Hook.objects.filter(done_at__lt=Now() - Value(KEPT), deliveries=None)
        locked = list(done.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True))
        done.filter(pk__in=locked).delete()  # without those for which an event was noted before the lock


def _due() -> Delivery | None:
    waiting = Delivery.objects.filter(state=Delivery.State.WAITING)
    flying = waiting.filter(lease_until__gte=Now()).values_list("hook__owner", "hook__site")
    owners, sites = Counter[int](), Counter[str]()
    for owner, site in flying:
        owners[owner] += 1
        sites[site] += 1
    earlier = waiting.filter(hook=OuterRef("hook"), subject=OuterRef("subject"), pk__lt=OuterRef("pk"))
    due = waiting.filter(due_at__lte=Now(), hook__active=True, hook__owner__is_active=True)
    return (
        (due.filter(token=None) | due.filter(lease_until__lt=Now()))
        .exclude(hook__owner__in=[owner for owner, count in owners.items() if count >= PER_OWNER])
        .exclude(hook__site__in=[site for site, count in sites.items() if count >= PER_SITE])
        .exclude(Exists(earlier))
        .order_by("due_at", "pk")
        .select_related("hook")
        .select_for_update(skip_locked=True, of=("self",))
        .first()
    )


def _settle(claim: DeliveryClaim, state: DeliveryState, **end: Any) -> None:
    held = Delivery.objects.filter(pk=claim.pk, token=claim.token)
    move(held, state, DELIVERY_MOVES, settled_at=Now(), token=None, lease_until=None, **end)
