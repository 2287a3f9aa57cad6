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

PAUSES = (1, 6, 30, 180)  # between tries, in units of the setting; by default 10 s, 1 min, 5 min, 30 min
TRIES = len(PAUSES) + 1
PER_SITE = 2  # concurrent deliveries to one site, so that it is not overloaded
PER_OWNER = 4  # concurrent deliveries of one user, so that slow targets do not delay those of others
KEPT = timedelta(days=7)  # settled deliveries, for the list of deliveries
PROGRESS_KEPT = timedelta(hours=1)
_MANY = 5000  # rows that one call deletes


@dataclass(frozen=True, kw_only=True)
class DeliveryClaim:
    """The right to try one delivery, and the data for it."""

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
    """Claim the delivery that has been due for longest, or None. Those of one subject keep their order."""
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
    """Renew the leases of the deliveries that are being tried."""
    Delivery.objects.filter(token__in=list(tokens)).update(lease_until=Now() + Value(lease))


def delivered(*, claim: DeliveryClaim, status: int) -> None:
    """Mark it as delivered."""
    _settle(claim, Delivery.State.DELIVERED, status=status, error="")


def given_up(*, claim: DeliveryClaim, error: str) -> None:
    """Mark it as failed without further tries."""
    _settle(claim, Delivery.State.FAILED, status=None, error=error)


def failed(*, claim: DeliveryClaim, status: int | None, error: str, pause: float) -> None:
    """Record a failed try. The next one is due after a pause, unless this was the last."""
    if claim.event == Event.TEST or claim.tries >= TRIES:
        _settle(claim, Delivery.State.FAILED, status=status, error=error[:300])
        return
    wait = timedelta(seconds=PAUSES[claim.tries - 1] * pause)
    Delivery.objects.filter(pk=claim.pk, token=claim.token).update(
        token=None, lease_until=None, status=status, error=error[:300], due_at=Now() + Value(wait)
    )


def gone(*, claim: DeliveryClaim) -> None:
    """Remove the hook, because its target answered 410 Gone."""
    with transaction.atomic():
        hook = Hook.objects.select_for_update().filter(pk=claim.hook, target=claim.target).first()
        if hook is not None and hook.deliveries.filter(token=claim.token).exists():
            hook.delete()


def tidy() -> None:
    """Delete old settled deliveries, and hooks of single runs that have delivered everything."""
    old = Delivery.objects.filter(settled_at__lt=Now() - Value(KEPT))
    progress = Delivery.objects.filter(event=Event.RUN_PROGRESS, settled_at__lt=Now() - Value(PROGRESS_KEPT))
    for rows in (old, progress):
        Delivery.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[:_MANY])).delete()
    with transaction.atomic():
        done = Hook.objects.filter(done_at__lt=Now() - Value(KEPT), deliveries=None)
        locked = list(done.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True))
        done.filter(pk__in=locked).delete()  # not those for which an event was written before the lock


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
