"""Remove export files to which no export refers: those of killed imports and of deleted exports."""

import logging
import os
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.db.models import Exists, OuterRef, Q, QuerySet

from gridapps.exports import stored_files, upload_checks
from gridapps.exports.models import ExportFile
from gridapps.runs.models import Task
from gridapps.runs.states import ACTIVE
from gridapps.storage.choice import current

# An import renews its directory every minute. An object cannot be renewed, and a long import writes many. An
# import may also rely on an object that another export had when it began.
GRACE = timedelta(days=1)
GRACE_OF_OBJECTS = timedelta(days=7)
log = logging.getLogger(__name__)
_PREFIX = "exports/"  # of the keys


def find() -> list[str]:
    """The keys of what no export refers to and no import may still need. Raises StorageUnavailable."""
    root = stored_files.root()
    return _find_objects() if root is None else _find_directories(root)


def find_deleted() -> list[str]:
    """The keys of the directories of deleted exports. No import can need them; objects wait for `find`."""
    root = stored_files.root()
    if root is None:
        return []
    present = set(os.listdir(root))  # noqa: PTH208 - names
    deleted = ExportFile.objects.filter(export__deleted_at__isnull=False)
    return sorted(f"{_PREFIX}{name}" for name in present & _directories(deleted) - _directories(_needed()))


def tidy() -> list[str]:
    """Remove what `find` finds; the keys. Raises StorageUnavailable."""
    return _remove(find())


def tidy_deleted() -> list[str]:
    """Remove what `find_deleted` finds; the keys."""
    return _remove(find_deleted())


def _remove(keys: list[str]) -> list[str]:
    """Remove them; the keys of those that are gone."""
    root = stored_files.root()
    if root is None:
        for key in keys:
            current().remove(key)
        return keys
    return [key for key in keys if _remove_directory(root / key.removeprefix(_PREFIX))]


def _remove_directory(directory: Path) -> bool:
    """Whether it is gone."""
    # An import as root that was killed at once left an empty directory, which this account may not open.
    with suppress(OSError):
        directory.rmdir()
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        log.warning("exports/%s cannot be removed: check who owns it.", directory.name)
        return False
    return True


def _find_directories(root: Path) -> list[str]:
    oldest = time.time() - GRACE.total_seconds()
    with os.scandir(root) as found:
        directories = [each for each in found if each.is_dir(follow_symlinks=False)]
        old = {each.name for each in directories if each.stat().st_mtime < oldest}
    # Read after the directories: what is written meanwhile is not old.
    if not old:
        return []
    return sorted(f"{_PREFIX}{name}" for name in old - upload_checks.unfinished() - _directories(_needed()))


def _find_objects() -> list[str]:
    oldest = datetime.now(UTC) - GRACE_OF_OBJECTS
    old = {entry.key for entry in current().entries(_PREFIX) if entry.modified < oldest}
    if not old:
        return []
    lately = ExportFile.objects.filter(export__deleted_at__gt=oldest)
    return sorted(old - {stored_files.key(path) for rows in (_needed(), lately) for path in _paths(rows)})


def _needed() -> QuerySet[ExportFile]:
    """The files of exports that exist, and of those whose canceled runs have not ended yet."""
    ends = Exists(Task.objects.filter(exportfile=OuterRef("pk"), state__in=ACTIVE))
    return ExportFile.objects.filter(Q(export__deleted_at=None) | ends)


def _directories(files: QuerySet[ExportFile]) -> set[str]:
    return {path.partition("/")[0] for path in _paths(files)}


def _paths(files: QuerySet[ExportFile]) -> set[str]:
    return set(files.order_by().values_list("path", flat=True))
