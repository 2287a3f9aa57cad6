"""Writes: create, change and delete hooks, renew their secrets, bind one to a run, deliver a test."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from gridapps.access.models import User
from gridapps.hooks import outbox, sealing, targets
from gridapps.hooks.errors import HookConflict, HookNotFound, InvalidHook
from gridapps.hooks.events import OF_A_RUN, OFFERED, Event
from gridapps.hooks.models import Delivery, Hook
from gridapps.hooks.targets import BadTarget

SHORTEST_SECRET, LONGEST_SECRET = 16, 200


def create(*, by: User, target: str, events: Sequence[str]) -> Hook:
    """Subscribe to events, with a new secret. Raises InvalidHook, HookConflict."""
    hook = Hook(owner=by, **_place(target), events=_events(events, OFFERED))
    hook.secret = _secret()
    most = settings.GRIDAPPS.max_hooks
    with transaction.atomic():
        User.objects.select_for_update().get(pk=by.pk)
        if Hook.objects.filter(owner=by, run=None).count() >= most:
            raise HookConflict(f"You have {most} hooks, which is the limit. Delete one first.")
        hook.save(force_insert=True)
    hook.refresh_from_db()
    return hook


def bind(*, by: User, run: UUID, target: str, secret: str, events: Sequence[str]) -> Hook:
    """Create a hook for one run, with the client's secret. Raises InvalidHook, with pointers below /hook.

    Call it in the transaction that creates the run.
    """
    if not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
        sentence = f"A secret has {SHORTEST_SECRET} to {LONGEST_SECRET} characters."
        raise InvalidHook(sentence, [("/hook/secret", sentence)])
    known = _events(events or OF_A_RUN, OF_A_RUN, "/hook")
    hook = Hook(owner=by, run=run, events=known, **_place(target, "/hook"))
    hook.secret = secret
    hook.save(force_insert=True)
    return hook


def change(*, by: User, pk: int, changes: dict[str, Any]) -> Hook:
    """Change `target`, `events` or `active`. Raises HookNotFound, InvalidHook.

    Waiting deliveries go to the new target, and are deleted when the hook becomes inactive.
    """
    with transaction.atomic():
        hook = _own(by, pk)
        if "target" in changes:
            for name, value in _place(changes["target"]).items():
                setattr(hook, name, value)
        if "events" in changes:
            hook.events = _events(changes["events"], OF_A_RUN if hook.run else OFFERED)
        hook.active = changes.get("active", hook.active)
        hook.save()
        if not hook.active:
            hook.deliveries.filter(state=Delivery.State.WAITING).delete()
    return hook


def renew_secret(*, by: User, pk: int) -> Hook:
    """Create a new secret, which signs all events from now on. Raises HookNotFound."""
    with transaction.atomic():
        hook = _own(by, pk)
        hook.secret = _secret()
        hook.save()
    return hook


def seal_again() -> int:
    """Encrypt again the secrets that older keys encrypted. Returns how many there were."""
    count = 0
    for hook in Hook.objects.only("pk", "sealed_secret").iterator():
        before = hook.sealed_secret
        if not sealing.is_present(before):
            hook.secret = hook.secret
            count += Hook.objects.filter(pk=hook.pk, sealed_secret=before).update(
                sealed_secret=hook.sealed_secret
            )
    return count


def delete(*, by: User, pk: int) -> None:
    """Delete a hook with its deliveries. Raises HookNotFound."""
    with transaction.atomic():
        _own(by, pk).delete()


def test(*, by: User, pk: int) -> Delivery:
    """Deliver a test event, once. Raises HookNotFound, HookConflict."""
    with transaction.atomic():
        hook = _own(by, pk)
        if not hook.active:
            raise HookConflict("The hook is not active: nothing is delivered to it.")
        return outbox.note_test(hook=hook)


def _own(by: User, pk: int) -> Hook:
    found = Hook.objects.select_for_update().filter(owner=by, pk=pk).first()
    if found is None:
        raise HookNotFound("You have no such hook.")
    return found


def _secret() -> str:
    return secrets.token_urlsafe(32)


def _place(target: str, pointer: str = "") -> dict[str, str]:
    try:
        return {"target": target, "site": targets.site(target, settings.GRIDAPPS.hook_rules())}
    except BadTarget as error:
        raise InvalidHook("The target is invalid.", [(f"{pointer}/target", str(error))]) from None


def _events(wanted: Iterable[str], offered: Sequence[Event], pointer: str = "") -> list[str]:
    wanted = list(dict.fromkeys(wanted))
    unknown = [name for name in wanted if name not in offered]
    if "newdata.loaded" in unknown:
        sentence = "This instance has no catalogue yet, so there is no event newdata.loaded."
    elif unknown or not wanted:
        sentence = f"Name one or more of {', '.join(offered)}."
    else:
        return wanted
    raise InvalidHook("The list of events is invalid.", [(f"{pointer}/event", sentence)])
