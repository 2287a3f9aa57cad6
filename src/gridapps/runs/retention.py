"""Retention: which runs lose their outputs and logs, by the operator's policy or at their user's request.

The rows are removed here, in one transaction for each run: from then on the outputs are invisible and do not
count for the quota. The run stays. It is marked until `housekeeping.output_files` has removed the files.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from gridapps.access.models import User
from gridapps.audit import record
from gridapps.runs import overview, worker_bell
from gridapps.runs.errors import Conflict, OutputsRemoved
from gridapps.runs.models import Output, Run
from gridapps.runs.states import ACTIVE


def remove(*, by: User, run: Run) -> None:
    """Remove the outputs and the log of a run that has ended. Idempotent. Raises Conflict while it is active.

    They are invisible at once; a worker removes the files soon after (`housekeeping.output_files`).
    """
    with transaction.atomic():
        if forget(run.pk, by=by):
            worker_bell.ring_on_commit()


def has_files_left() -> bool:
    """Whether files should be removed now, before the next periodic round."""
    return Run.objects.filter(files_left=True).exists()


def forget(pk: UUID, *, by: User | str) -> bool:
    """Remove the rows of a run's outputs; False when they had been removed. Raises Conflict."""
    with transaction.atomic():
        row = Run.objects.select_for_update().get(pk=pk)
        if row.state in ACTIVE:
            raise Conflict("The run has not ended yet: wait for its end, or cancel it.")
        if row.outputs_removed_at is not None:
            return False
        count, _ = Output.objects.filter(task__run=pk).delete()
        Run.objects.filter(pk=pk).update(outputs_removed_at=Now(), files_left=True, version=F("version") + 1)
        record.outputs_removed(by=by, run=pk, outputs=count)
        return True


def expired() -> QuerySet[Run, UUID]:
    """The runs whose outputs the policy removes, in the order of their ends."""
    days = settings.GRIDAPPS.keep_outputs
    kept = Run.objects.filter(ended_at__isnull=False, outputs_removed_at__isnull=True)
    old = kept.filter(ended_at__lt=overview.now() - timedelta(days=days)) if days else kept.none()
    return old.order_by("ended_at").values_list("pk", flat=True)


def expire_at(run: Run) -> datetime | None:
    """When the policy removes the outputs of a run; None if it does not, or they were removed."""
    days = settings.GRIDAPPS.keep_outputs
    if not days or run.ended_at is None or run.outputs_removed_at is not None:
        return None
    return run.ended_at + timedelta(days=days)


def require_kept(run: Run) -> None:
    """Raise OutputsRemoved if the outputs were removed."""
    if run.outputs_removed_at is not None:
        raise OutputsRemoved(
            f"The outputs and the log of this run were removed on {run.outputs_removed_at:%Y-%m-%d}."
        )
