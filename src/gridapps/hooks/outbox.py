"""The outbox: events are written here for each subscribed hook, in the transaction that they describe.

So no event of a rolled back transaction is delivered, and none of a committed one is lost.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Now

from gridapps.hooks import courier_bell
from gridapps.hooks.events import Event
from gridapps.hooks.models import Delivery, Hook

PACE = timedelta(seconds=5)  # between two progress events of one run


def note(*, event: Event, owner: int, subject: str, facts: Callable[[], dict[str, Any]]) -> None:
    """Write an event for those hooks of `owner` that subscribe to it.

    `subject` is a kind and a key (`run:UUID`). Events of one subject are delivered in order. `facts` is
    called only if there is such a hook.
    """
    kind, _, key = subject.partition(":")
    mine = Q(run__isnull=True) | Q(run=key) if kind == "run" else Q(run__isnull=True)
    active = Hook.objects.filter(mine, owner=owner, active=True)
    wanting = [hook.pk for hook in active if event.value in hook.events]
    if wanting:
        known = facts()
        with transaction.atomic():
            # Deletions of the hooks wait for this lock. Without it, they would make the commit fail.
            for hook in active.filter(pk__in=wanting).select_for_update(no_key=True).order_by("pk"):
                _write(hook, event, subject, known)
            courier_bell.ring_on_commit()
    if event == Event.RUN_COMPLETE:
        # Hooks of this run have no further events.
        Hook.objects.filter(owner=owner, run=key).update(done_at=Now())


def note_test(*, hook: Hook) -> Delivery:
    """Write a test event, unless one is waiting; returns it in both cases."""
    with transaction.atomic():
        Hook.objects.select_for_update().get(pk=hook.pk)
        waiting = hook.deliveries.filter(event=Event.TEST, state=Delivery.State.WAITING).first()
        if waiting is None:
            waiting = Delivery.objects.create(
                hook=hook, event=Event.TEST, subject=f"hook:{hook.pk}", facts={}
            )
            courier_bell.ring_on_commit()
        waiting.refresh_from_db()
        return waiting


def _write(hook: Hook, event: Event, subject: str, facts: dict[str, Any]) -> None:
    due = Now()
    if event in {Event.RUN_PROGRESS, Event.RUN_COMPLETE}:
        old = _unclaimed(hook, subject)
        if event == Event.RUN_COMPLETE:
            old.delete()
        elif old.update(facts=facts, created_at=Now()):
            return
        else:
            due = _at_the_pace(hook, subject)
    Delivery.objects.create(hook=hook, event=event, subject=subject, facts=facts, due_at=due)


def _unclaimed(hook: Hook, subject: str) -> QuerySet[Delivery]:
    """The progress event of a run that no courier has claimed. A newer one replaces it."""
    return Delivery.objects.filter(
        hook=hook, subject=subject, event=Event.RUN_PROGRESS, state=Delivery.State.WAITING, token__isnull=True
    )


def _at_the_pace(hook: Hook, subject: str) -> Any:
    lately = Delivery.objects.filter(
        hook=hook, event=Event.RUN_PROGRESS, subject=subject, created_at__gt=Now() - Value(PACE)
    )
    return Now() + Value(PACE) if lately.exists() else Now()
