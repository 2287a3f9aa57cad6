"""Reads of the audit, and its entries as JSON."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from django.db.models import QuerySet

from gridapps.audit.models import Entry


def entries(*, since: datetime | None = None, until: datetime | None = None) -> QuerySet[Entry]:
    """The entries from `since` until before `until`, in the order in which they were written."""
    found = Entry.objects.order_by("pk")
    if since is not None:
        found = found.filter(at__gte=since)
    return found.filter(at__lt=until) if until is not None else found


def facts(entry: Entry) -> dict[str, Any]:
    """An entry as a JSON object."""
    return {
        "id": entry.pk,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "event": entry.event,
        "actor": entry.actor,
        "subject": entry.subject,
        "details": entry.details,
        "request": entry.request or None,
        "address": entry.address,
    }


def lines(found: Iterable[Entry]) -> Iterator[str]:
    """The entries as JSON lines."""
    for entry in found:
        yield json.dumps(facts(entry), ensure_ascii=False, separators=(",", ":")) + "\n"
