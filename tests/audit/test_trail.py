"""The table of the audit is append-only, and written in the transaction that it records."""

import json
from collections.abc import Iterator
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction

from gridapps.audit import context, guard, queries, record, trail
from gridapps.audit.models import Entry
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def guarded(db: None) -> Iterator[None]:
    """Install the triggers, as in an instance. Other tests need a table that can be emptied."""
    guard.install(connection)
    guard.install(connection)
    yield
    guard.remove(connection)


@pytest.mark.usefixtures("guarded")
def test_nothing_is_changed_or_deleted(cast: Cast) -> None:
    record.tag_created(by=cast.administrator, tag="roads")
    entry = Entry.objects.get()
    for attempt in (
        lambda: Entry.objects.update(subject="tag:rails"),
        lambda: Entry.objects.all()._raw_delete(Entry.objects.db),
        entry.delete,
        lambda: Entry(pk=entry.pk, event="x", actor="x", subject="x").save(force_update=True),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()
    assert Entry.objects.get().subject == "tag:roads"


def test_an_entry_says_who_did_what_from_where(cast: Cast) -> None:
    with context.bound(request="0" * 32, address="192.0.2.7"):
        record.tag_given(by=cast.administrator, tag="roads", user=cast.analyst)
    record.tag_created(by=None, tag="rails")
    record.release_removed(release="roads@sha256:1", reason="Old.")
    first, second, third = (json.loads(line) for line in queries.lines(queries.entries()))
    assert first["at"].endswith("Z")
    assert {name: first[name] for name in ("event", "actor", "subject", "details", "request", "address")} == {
        "event": "tag.given",
        "actor": f"user:{cast.administrator.pk}",
        "subject": "tag:roads",
        "details": {"user": f"user:{cast.analyst.pk}"},
        "request": "0" * 32,
        "address": "192.0.2.7",
    }
    assert (second["actor"], second["request"], second["address"]) == ("operator", None, None)
    assert third["actor"] == "instance"


def test_what_is_given_up_leaves_no_entry(cast: Cast) -> None:
    @transaction.atomic
    def give_up() -> None:
        record.tag_created(by=cast.administrator, tag="roads")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        give_up()
    assert not Entry.objects.exists()


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "\x1b[2J", "\ud800", "x" * 10_000])
def test_whatever_is_said_can_be_stored_and_shown(text: str) -> None:
    with context.bound(address=text):
        trail.add(Entry.Event.REFUSED, None, text, sentence=text, reasons=[text])
    (line,) = queries.lines(queries.entries())
    assert line.isprintable() or line[:-1].isprintable()
    assert len(line) < 2000
    assert json.loads(line)["address"] is None


def test_what_repeats_itself_is_said_once(cast: Cast) -> None:
    for user in (cast.analyst, cast.analyst, cast.outsider):
        record.outputs_downloaded(by=user, run=UUID(int=1))
    record.outputs_downloaded(by=cast.analyst, run=UUID(int=2))
    assert Entry.objects.count() == 3


def test_nobody_fills_the_table_with_refusals(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "MAX_REFUSED", 5)
    for number in range(10):
        for _ in range(2):
            record.refused(by=cast.outsider, subject=f"call:/{number}", code="denied", sentence="No.")
    record.refused(by=cast.analyst, subject="call:/1", code="denied", sentence="No.")
    refused = Entry.objects.filter(event=Entry.Event.REFUSED)
    assert refused.filter(actor=f"user:{cast.outsider.pk}").count() == 5
    assert refused.filter(actor=f"user:{cast.analyst.pk}").count() == 1
