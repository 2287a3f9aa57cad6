"""Removing what no export refers to: killed imports leave it, and exports that were deleted."""

import os
import shutil
import time
from datetime import UTC, datetime, timedelta

from gridapps.exports import stored_files
from gridapps.exports.models import ExportFile
from gridapps.storage.choice import current

# An import shows each minute that it goes on; an object cannot, and the longest import has many of them.
GRACE = timedelta(days=1)
GRACE_OF_OBJECTS = timedelta(days=7)


def tidy(*, dry_run: bool = False) -> list[str]:
    """Remove it, unless its import may still go on, or with `dry_run` only find it; the keys.

    Raises StorageUnavailable.
    """
    return _tidy_objects(dry_run) if stored_files.root() is None else _tidy_directories(dry_run)


def _tidy_directories(dry_run: bool) -> list[str]:
    root = stored_files.root()
    assert root is not None
    oldest = time.time() - GRACE.total_seconds()
    with os.scandir(root) as found:
        directories = [each for each in found if each.is_dir(follow_symlinks=False)]
        old = {each.name for each in directories if each.stat().st_mtime < oldest}
    if not old:
        return []
    # Asked after the look: what is written meanwhile is not old.
    unused = old - {path.partition("/")[0] for path in _paths()}
    for name in () if dry_run else unused:
        shutil.rmtree(root / name, ignore_errors=True)
    return [f"exports/{name}" for name in sorted(unused)]


def _tidy_objects(dry_run: bool) -> list[str]:
    oldest = datetime.now(UTC) - GRACE_OF_OBJECTS
    old = {entry.key for entry in current().entries("exports/") if entry.modified < oldest}
    unused = old - {stored_files.key(path) for path in _paths()} if old else old
    for key in () if dry_run else unused:
        current().remove(key)
    return sorted(unused)


def _paths() -> list[str]:
    return list(ExportFile.objects.order_by().values_list("path", flat=True).distinct())
