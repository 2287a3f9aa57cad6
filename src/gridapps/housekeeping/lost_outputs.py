"""Removing the logs and outputs that no row refers to.

Workers remove what they leave themselves; this finds what nobody was there to remove. It looks at everything.
"""

from itertools import groupby

from gridapps.runs import store
from gridapps.runs.models import Task


def tidy(*, dry_run: bool = False) -> list[str]:
    """Remove it, or with `dry_run` only find it; the keys. Raises StorageUnavailable.

    An attempt has its row before its first file.
    """
    removed = []
    for run, attempts in groupby(store.attempts(), key=lambda files: files.run):
        found = list(attempts)
        kept = Task.objects.filter(run=run, run__outputs_removed_at__isnull=True)
        known = dict(kept.values_list("index", "attempt"))
        for files in found:
            if known.get(files.index) != files.attempt:
                if not dry_run:
                    files.remove()
                removed.append(files.key)
    return removed
