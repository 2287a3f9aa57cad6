"""Retention: outputs and logs of ended runs go, by the operator's policy or because their user says so.

The rows go first, in one transaction for each run: from then on nobody sees its outputs, and they count for
no quota. The files go after that, by a worker: only workers write outputs. A run of which files may still lie
there is marked, so a worker that died is succeeded. The run itself stays, with all that it says of itself.
"""

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from gridapps.access.models import User
from gridapps.audit import trail
from gridapps.audit.events import Event
from gridapps.exports.storage import current
from gridapps.runs import bell, overview
from gridapps.runs.errors import Conflict, OutputsRemoved
from gridapps.runs.models import Output, Run
from gridapps.runs.states import ACTIVE

logger = logging.getLogger(__name__)

BATCH = 500  # runs that are looked up at once


def remove(*, by: User, run: Run) -> None:
    """Remove the outputs and the log of a run that has ended: for everybody at once, their files soon after
    (`sweep`). Doing it again changes nothing. Raises Conflict while the run is active.
    """
    with transaction.atomic():
        if _forget(run.pk, by=by):
            bell.ring_on_commit()


def has_files_left() -> bool:
    """Whether `sweep` has something to do that should not wait for its next round."""
    return Run.objects.filter(files_left=True).exists()


def sweep(*, dry_run: bool = False) -> Iterator[str]:
    """Remove what the policy says, and the files of all that was removed; the keys.

    With `dry_run` it only says what. May be stopped at any moment, and run twice at once. Raises
    StorageUnavailable: what was not reached is the next one's.
    """
    interrupted = Run.objects.filter(files_left=True).order_by("outputs_removed_at")
    left = list(interrupted.values_list("pk", flat=True))
    if dry_run:
        yield from (f"outputs/{pk}" for pk in (*left, *_expired().iterator()))
        return
    yield from _cleared(left)
    while batch := list(_expired()[:BATCH]):
        for pk in batch:
            _forget(pk, by=trail.INSTANCE)
            yield from _cleared([pk])


def _forget(pk: UUID, *, by: User | str) -> bool:
    """Remove the rows of a run's outputs; False when that was done already. Raises Conflict."""
    with transaction.atomic():
        row = Run.objects.select_for_update().get(pk=pk)
        if row.state in ACTIVE:
            raise Conflict("The run has not ended yet: wait for its end, or cancel it.")
        if row.outputs_removed_at is not None:
            return False
        count, _ = Output.objects.filter(task__run=pk).delete()
        Run.objects.filter(pk=pk).update(outputs_removed_at=Now(), files_left=True, version=F("version") + 1)
        trail.record(event=Event.OUTPUTS_REMOVED, by=by, subject=f"run:{pk}", outputs=count)
        return True


def _expired() -> QuerySet[Run, UUID]:
    """The runs whose outputs the policy removes, those that ended first before the others."""
    days = settings.GRIDAPPS.keep_outputs
    kept = Run.objects.filter(ended_at__isnull=False, outputs_removed_at__isnull=True)
    old = kept.filter(ended_at__lt=overview.now() - timedelta(days=days)) if days else kept.none()
    return old.order_by("ended_at").values_list("pk", flat=True)


def expire_at(run: Run) -> datetime | None:
    """When the policy removes the outputs of a run; None when it does not, or when they are gone."""
    days = settings.GRIDAPPS.keep_outputs
    if not days or run.ended_at is None or run.outputs_removed_at is not None:
        return None
    return run.ended_at + timedelta(days=days)


def require_kept(run: Run) -> None:
    """Raise OutputsRemoved if there is nothing to see any more."""
    if run.outputs_removed_at is not None:
        raise OutputsRemoved(
            f"The outputs and the log of this run were removed on {run.outputs_removed_at:%Y-%m-%d}."
        )


def _cleared(runs: Iterable[UUID]) -> Iterator[str]:
    """Remove the files of these runs, of which no row speaks any more."""
    for pk in runs:
        key = f"outputs/{pk}"
        try:
            current().remove(key)
        except OSError as error:  # of these files alone
            logger.warning("%s is left: %s", key, error)
            continue
        Run.objects.filter(pk=pk).update(files_left=False)
        yield key
