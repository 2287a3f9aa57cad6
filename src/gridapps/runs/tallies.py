"""Counters of the metrics: each row that has ended is counted once.

The totals are stored in the database, because every application process must return the same values.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, F, Model, QuerySet

from gridapps.runs import overview
from gridapps.runs.models import Tally

_CLOCK = ""  # in place of labels: the row with the time up to which the metric is counted


def update(
    metric: str, rows: "QuerySet[Model]", *, ended_at: str, labels: Sequence[str], settle: timedelta
) -> Mapping[tuple[str, ...], int]:
    """Count what has ended since the last call. Returns the totals by the values of the labels.

    Rows that ended within `settle` are left for the next call: their transactions may not have committed.
    """
    with transaction.atomic():
        begin = _locked(metric)
        end = max(overview.now() - settle, begin)
        span = {f"{ended_at}__gt": begin, f"{ended_at}__lte": end}
        found = rows.filter(**span).order_by().values_list(*labels).annotate(n=Count("pk"))
        _add(metric, ((tuple(values), number) for *values, number in found))
        Tally.objects.filter(metric=metric, labels=_CLOCK).update(until=end)
        totals = Tally.objects.filter(metric=metric).exclude(labels=_CLOCK).values_list("labels", "total")
        return {tuple(json.loads(text)): total for text, total in totals}


def _locked(metric: str) -> datetime:
    """The time up to which it is counted. The row is locked, so that no two processes count the same rows."""
    begin = Tally(metric=metric, labels=_CLOCK, until=overview.now())
    Tally.objects.bulk_create([begin], ignore_conflicts=True)
    until = Tally.objects.select_for_update().get(metric=metric, labels=_CLOCK).until
    assert until is not None
    return until


def _add(metric: str, found: Iterable[tuple[tuple[str, ...], int]]) -> None:
    for values, number in found:
        row, _ = Tally.objects.get_or_create(metric=metric, labels=json.dumps(values))
        Tally.objects.filter(pk=row.pk).update(total=F("total") + number)
