"""The outbox: what happened is noted here in the transaction in which it happens, for each hook that asked.

So nothing is told that was rolled back, and nothing that was committed is forgotten.
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

PACE = timedelta(seconds=5)  # between two notes of the progress of one run


def note(*, event: Event, owner: int, subject: str, facts: Callable[[], dict[str, Any]]) -> None:
    """Note an event of `owner`'s for those of their hooks that asked for it.

    `subject` is a kind and a key (`run:UUID`): what belongs to one is told in order. `facts` is called only
    when somebody wants to know.
    """
    kind, _, key = subject.partition(":")
    mine = Q(run__isnull=True) | Q(run=key) if kind == "run" else Q(run__isnull=True)
    active = Hook.objects.filter(mine, owner=owner, active=True)
    wanting = [hook.pk for hook in active if event.value in hook.events]
    if wanting:
        known = facts()
        with transaction.atomic():
            # Deletions of the hooks wait for this lock. Otherwise they would make the commit fail.
            for hook in active.filter(pk__in=wanting).select_for_update(no_key=True).order_by("pk"):
                _write(hook, event, subject, known)
            courier_bell.ring_on_commit()
    if event == Event.RUN_COMPLETE:
        # What was bound to this run has told all.
        Hook.objects.filter(owner=owner, run=key).update(done_at=Now())


def note_test(*, hook: Hook) -> Delivery:
    """Note a test event; one that waits already is the answer to being asked again."""
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
    """The note of a run's progress that no courier has taken: a newer one takes its place."""
    return Delivery.objects.filter(
        hook=hook, subject=subject, event=Event.RUN_PROGRESS, state=Delivery.State.WAITING, token__isnull=True
    )


def _at_the_pace(hook: Hook, subject: str) -> Any:
    lately = Delivery.objects.filter(
        hook=hook, event=Event.RUN_PROGRESS, subject=subject, created_at__gt=Now() - Value(PACE)
    )
    return Now() + Value(PACE) if lately.exists() else Now()
