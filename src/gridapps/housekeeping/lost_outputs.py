"""Removing the logs and outputs that no row refers to.

Workers remove what they leave themselves; this finds what nobody was there to remove. It looks at everything.
"""

from collections.abc import Iterator
from itertools import groupby
from uuid import UUID

from gridapps.exports.storage import current
from gridapps.runs.models import Task
from gridapps.runs.store import Place


def tidy(*, dry_run: bool = False) -> list[str]:
    """Remove it, or with `dry_run` only find it; the keys. Raises StorageUnavailable.

    An attempt has its row before its first file.
    """
    removed = []
    for run, places in groupby(_places(), key=lambda place: place.run):
        found = list(places)
        kept = Task.objects.filter(run=run, run__outputs_removed_at__isnull=True)
        known = dict(kept.values_list("index", "attempt"))
        for place in found:
            if known.get(place.index) != place.attempt:
                if not dry_run:
                    place.remove()
                removed.append(place.key)
    return removed


def _places() -> Iterator[Place]:
    """Every attempt that has left something, run by run."""
    top = current().local("outputs")
    if top is not None:
        keys: Iterator[list[str]] = (
            list(path.parts[-3:]) for path in sorted(top.glob("*/*/*")) if path.is_dir()
        )
    else:
        keys = (entry.key.split("/")[1:4] for entry in current().entries("outputs/"))
    for parts, _ in groupby(keys):
        try:
            run, index, attempt = UUID(parts[0]), int(parts[1]), int(parts[2])
        except (ValueError, IndexError):
            continue  # not ours
        yield Place(run, index, attempt)
