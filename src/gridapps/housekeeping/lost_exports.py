"""Remove export files to which no export refers: those of killed imports and of deleted exports."""

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gridapps.exports import stored_files
from gridapps.exports.models import ExportFile
from gridapps.storage.choice import current

# An import renews its directory every minute. An object cannot be renewed, and a long import writes many.
GRACE = timedelta(days=1)
GRACE_OF_OBJECTS = timedelta(days=7)
_PREFIX = "exports/"  # of the keys


def find() -> list[str]:
    """The keys of what no export refers to and no import may still need. Raises StorageUnavailable."""
    root = stored_files.root()
    return _find_objects() if root is None else _find_directories(root)


def tidy() -> list[str]:
    """Remove what `find` finds; the keys. Raises StorageUnavailable."""
    found, root = find(), stored_files.root()
    for key in found:
        if root is None:
            current().remove(key)
        else:
            shutil.rmtree(root / key.removeprefix(_PREFIX), ignore_errors=True)
    return found


def _find_directories(root: Path) -> list[str]:
    oldest = time.time() - GRACE.total_seconds()
    with os.scandir(root) as found:
        directories = [each for each in found if each.is_dir(follow_symlinks=False)]
        old = {each.name for each in directories if each.stat().st_mtime < oldest}
    if not old:
        return []
    # Read after the directories: what is written meanwhile is not old.
    unused = old - {path.partition("/")[0] for path in _paths()}
    return sorted(f"{_PREFIX}{name}" for name in unused)


def _find_objects() -> list[str]:
    oldest = datetime.now(UTC) - GRACE_OF_OBJECTS
    old = {entry.key for entry in current().entries(_PREFIX) if entry.modified < oldest}
    return sorted(old - {stored_files.key(path) for path in _paths()} if old else old)


def _paths() -> list[str]:
    return list(ExportFile.objects.order_by().values_list("path", flat=True).distinct())
