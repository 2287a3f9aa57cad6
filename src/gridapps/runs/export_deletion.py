"""Deleting an export, with what happens to the runs on it.

The row stays, because runs refer to it and to its files. From then on it is invisible, and no run can be
submitted on it. `housekeeping.lost_exports` removes the files.
"""

from django.db import transaction
from django.db.models.functions import Now

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.audit import record
from gridapps.exports.errors import ExportNotFound
from gridapps.exports.models import Export
from gridapps.hooks import outbox
from gridapps.hooks.events import Event
from gridapps.registry import sharing
from gridapps.runs import queue, worker_bell
from gridapps.runs.errors import Conflict
from gridapps.runs.models import Run
from gridapps.runs.states import ACTIVE

DELETED = "The export of this run was deleted."


def delete_export(*, by: User, export: Export, stop: bool = False) -> None:
    """Delete your own export. `stop`: cancel the runs on it that have not ended.

    Raises ExportNotFound, and Conflict if there are such runs and `stop` is false.
    """
    with transaction.atomic():
        row = _locked(export)
        if not permissions.owns(by, row):
            raise _absent(export)
        active = Run.objects.filter(export=row, state__in=ACTIVE).count()
        if active and not stop:
            raise Conflict(
                f"{active} of your runs on this export have not ended: wait for them, or ask for their "
                "cancellation with the deletion (`stop`)."
            )
        _delete(by, row, text=DELETED, reason=None)


def remove_export(*, by: User, export: Export, reason: str) -> None:
    """Delete another user's export, and cancel the runs on it. The user reads the reason.

    Raises NotAnAdministrator, InvalidShare for an invalid reason, ExportNotFound if it was deleted.
    """
    permissions.require_administrator(by)
    kept = sharing.checked_reason(reason)
    with transaction.atomic():
        text = f"Canceled by an administrator, who deleted the export: {kept}"
        _delete(by, _locked(export), text=text, reason=kept)


def _locked(export: Export) -> Export:
    """The row, under a lock that submissions on this export wait for (`operations`)."""
    row = Export.objects.select_for_update().filter(pk=export.pk, deleted_at=None).first()
    if row is None:
        raise _absent(export)
    return row


def _absent(export: Export) -> ExportNotFound:
    return ExportNotFound(f"You have no export {export.pk}.")


def _delete(by: User, export: Export, *, text: str, reason: str | None) -> None:
    for pk in Run.objects.filter(export=export, state__in=ACTIVE).values_list("pk", flat=True):
        queue.cancel(run=pk, text=text)
        record.run_canceled(by=by, run=pk, reason=reason or "export deleted")
    Export.objects.filter(pk=export.pk).update(deleted_at=Now())
    record.export_deleted(by=by, export=export.pk, files=export.files.count(), reason=reason)
    outbox.note(
        event=Event.EXPORT_DELETED,
        owner=export.owner_id,
        subject=f"export:{export.pk}",
        facts=lambda: {"export": {"pk": str(export.pk), "name": export.name, "reason": reason}},
    )
    worker_bell.ring_on_commit()
