"""How an entry is written: with its actor, its request, and texts of bounded length."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Protocol

from django.db.models import QuerySet, Value
from django.db.models.functions import Now

from gridapps.audit import context
from gridapps.audit.models import Entry

INSTANCE = "instance"  # the actor of what the instance does by itself
PERIOD = timedelta(hours=1)  # repeated events are recorded once per period
MAX_REFUSED = 200  # refusals of one actor that are recorded per period
MAX_TEXT = 500  # characters of a text in the details
MAX_SUBJECT = 300  # characters


class Keyed(Protocol):
    """A user, as far as the audit needs to know one."""

    pk: Any


# A user; None for the operator at the command line; INSTANCE; or `node:NAME`.
Actor = Keyed | str | None


def add(event: Entry.Event, by: Actor, subject: str, **details: object) -> None:
    """Add an entry, in the current transaction. `details` are JSON values, and no secrets."""
    ids = context.current()
    Entry.objects.create(
        event=event,
        actor=_actor(by),
        subject=_printable(subject)[:MAX_SUBJECT],
        details={name: _bounded(value) for name, value in details.items()},
        request=ids.get("request", ""),
        address=_address(ids.get("address", "")),
    )


def add_once(
    event: Entry.Event, by: Actor, subject: str, *, at_most: int | None = None, **details: object
) -> None:
    """Add an entry unless the period has one of this event, actor and subject.

    `at_most` limits the entries of one actor per period, for events whose subject the actor chooses.
    """
    recent = _recent(event, by)
    if at_most is not None and recent.count() >= at_most:
        return
    if not recent.filter(subject=_printable(subject)[:MAX_SUBJECT]).exists():
        add(event, by, subject, **details)


def add_refusal(by: Actor, subject: str, *, code: str, sentence: str, **details: object) -> None:
    """Add an entry of a refusal: the same refusal once per period, and at most MAX_REFUSED of one actor, so
    that no actor can fill the table."""
    recent = _recent(Entry.Event.REFUSED, by)
    same = recent.filter(
        subject=_printable(subject)[:MAX_SUBJECT], details__code=code, details__sentence=_bounded(sentence)
    )
    if not same.exists() and recent.count() < MAX_REFUSED:
        add(Entry.Event.REFUSED, by, subject, code=code, sentence=sentence, **details)


def _recent(event: Entry.Event, by: Actor) -> QuerySet[Entry]:
    return Entry.objects.filter(actor=_actor(by), event=event, at__gt=Now() - Value(PERIOD))


def _actor(by: Actor) -> str:
    if by is None:
        return "operator"
    return by if isinstance(by, str) else f"user:{by.pk}"


def _address(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return _printable(value)[:MAX_TEXT]
    if isinstance(value, list | tuple):
        return [_bounded(each) for each in value[:100]]
    return value


def _printable(text: str) -> str:
    """Text that every database can store and every terminal can show."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)
