"""Names of exports: the rule, and changing one."""

from django.db import transaction

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.access.names import is_line
from gridapps.audit import record
from gridapps.exports.errors import ExportNotFound, InvalidExport
from gridapps.exports.models import Export

MAX_NAME = 200
RULE = f"An export needs a name of 1 to {MAX_NAME} printable characters."


def is_name(text: str) -> bool:
    """Whether an export may have this name."""
    return is_line(text, longest=MAX_NAME)


def checked_name(text: str) -> str:
    """The name as stored. Raises InvalidExport."""
    if not is_name(text):
        raise InvalidExport("The name is invalid.", [("/name", RULE)])
    return text.strip()


def rename(*, by: User, export: Export, name: str) -> Export:
    """Give your own export another name. Raises InvalidExport, ExportNotFound."""
    kept = checked_name(name)
    with transaction.atomic():
        row = Export.objects.select_for_update(no_key=True).filter(pk=export.pk, deleted_at=None).first()
        if row is None or not permissions.owns(by, row):
            raise ExportNotFound(f"You have no export {export.pk}.")
        if row.name != kept:
            Export.objects.filter(pk=row.pk).update(name=kept)
            record.export_renamed(by=by, export=row.pk)
    export.refresh_from_db()
    return export
