"""Removes the files of outputs that retention has removed from the database.

Workers run it, because only workers write outputs. It can be stopped at any moment and run twice at once: a
run stays marked until its files are removed.
"""

import logging
from collections.abc import Iterable, Iterator
from uuid import UUID

from gridapps.audit.trail import INSTANCE
from gridapps.runs import retention, store
from gridapps.runs.models import Run
from gridapps.storage.choice import current

logger = logging.getLogger(__name__)

BATCH = 500  # runs that are looked up at once


def plan() -> Iterator[str]:
    """The keys of what `sweep` would remove."""
    return (store.run_key(pk) for pk in (*_left(), *retention.expired().iterator()))


def sweep() -> Iterator[str]:
    """Remove the outputs that the policy no longer keeps, and files that earlier removals left; the keys.

    May be stopped at any moment, and run twice at once. Raises StorageUnavailable: the next call goes on.
    """
    yield from _cleared(_left())
    while batch := list(retention.expired()[:BATCH]):
        for pk in batch:
            retention.forget(pk, by=INSTANCE)
            yield from _cleared([pk])


def _left() -> list[UUID]:
    """The runs whose outputs were removed, and whose files may still exist."""
    interrupted = Run.objects.filter(files_left=True).order_by("outputs_removed_at")
    return list(interrupted.values_list("pk", flat=True))


def _cleared(runs: Iterable[UUID]) -> Iterator[str]:
    """Remove the files of these runs, to which no row refers any more."""
    for pk in runs:
        key = store.run_key(pk)
        try:
            current().remove(key)
        except OSError as error:  # of these files alone
            logger.warning("%s is left: %s", key, error)
            continue
        Run.objects.filter(pk=pk).update(files_left=False)
        yield key
