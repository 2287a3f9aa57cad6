"""Writing to the audit: in the transaction of what is recorded, neither is there without the other."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Protocol

from django.db.models import Value
from django.db.models.functions import Now

from gridapps import context
from gridapps.audit.events import Event
from gridapps.audit.models import Entry

INSTANCE = "instance"  # the actor of what the instance does by itself
ONCE_IN = timedelta(hours=1)  # what repeats itself is recorded once in this time
MAX_REFUSED = 200  # refusals of one actor that are recorded in this time
LONGEST = 500  # characters of a text among the details


class Keyed(Protocol):
    """A user, as far as the audit needs to know one."""

    pk: Any


def record(*, event: Event, by: Keyed | str | None, subject: str, **details: object) -> None:
    """Add an entry. Call it in the transaction that does what the entry says.

    `by`: a user; None is the operator at the command line; INSTANCE is the instance itself; `node:NAME` a
    node. `subject` is a kind and a key, such as `app:roads`. `details` are JSON values, and no secrets.
    """
    ids = context.current()
    Entry.objects.create(
        event=event,
        actor=_actor(by),
        subject=_plain(subject)[:300],
        details={name: _bounded(value) for name, value in details.items()},
        request=ids.get("request", ""),
        address=_address(ids.get("address", "")),
    )


def note(
    *, event: Event, by: Keyed | str | None, subject: str, at_most: int | None = None, **details: object
) -> None:
    """Add an entry for what is done repeatedly, such as reading: once an hour for each actor and subject.

    `at_most` limits the entries of one actor in that time, where the actor chooses the subject.
    """
    recent = _recent(by, event)
    if at_most is not None and recent.count() >= at_most:
        return
    if not recent.filter(subject=_plain(subject)[:300]).exists():
        record(event=event, by=by, subject=subject, **details)


def refused(*, by: Keyed | str | None, subject: str, code: str, sentence: str, **details: object) -> None:
    """Somebody who is known was refused: the same once an hour, and at most MAX_REFUSED in an hour, so that
    nobody fills the table. Call it outside the transaction that was given up."""
    recent = _recent(by, Event.REFUSED)
    same = recent.filter(
        subject=_plain(subject)[:300], details__code=code, details__sentence=_bounded(sentence)
    )
    if not same.exists() and recent.count() < MAX_REFUSED:
        record(event=Event.REFUSED, by=by, subject=subject, code=code, sentence=sentence, **details)


def _recent(by: Keyed | str | None, event: Event) -> Any:
    return Entry.objects.filter(actor=_actor(by), event=event, at__gt=Now() - Value(ONCE_IN))


def _actor(by: Keyed | str | None) -> str:
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
        return _plain(value)[:LONGEST]
    if isinstance(value, list | tuple):
        return [_bounded(each) for each in value[:100]]
    return value


def _plain(text: str) -> str:
    """What every database and terminal takes."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)
