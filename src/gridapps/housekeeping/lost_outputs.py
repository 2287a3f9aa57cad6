"""Remove logs and outputs to which no row refers.

Workers remove what they leave themselves; this removes what a worker that died has left. It lists everything.
"""

from collections.abc import Iterator
from itertools import groupby

from gridapps.runs import store
from gridapps.runs.models import Task
from gridapps.runs.store import AttemptFiles


def find() -> Iterator[AttemptFiles]:
    """The attempts of which no task shows anything. Raises StorageUnavailable.

    An attempt has its row before its first file.
    """
    for run, attempts in groupby(store.attempts(), key=lambda files: files.run):
        found = list(attempts)
        kept = Task.objects.filter(run=run, run__outputs_removed_at__isnull=True)
        known = dict(kept.values_list("index", "attempt"))
        yield from (files for files in found if known.get(files.index) != files.attempt)


def plan() -> list[str]:
    """The keys of what `tidy` would remove. Raises StorageUnavailable."""
    return [files.key for files in find()]


def tidy() -> list[str]:
    """Remove what `find` finds; the keys. Raises StorageUnavailable."""
    removed = []
    for files in find():
        files.remove()
        removed.append(files.key)
    return removed
