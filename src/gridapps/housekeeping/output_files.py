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


def sweep(*, dry_run: bool = False) -> Iterator[str]:
    """Remove what the policy says, and the files of all that was removed; the keys.

    With `dry_run` it only says what. May be stopped at any moment, and run twice at once. Raises
    StorageUnavailable: what was not reached is the next one's.
    """
    interrupted = Run.objects.filter(files_left=True).order_by("outputs_removed_at")
    left = list(interrupted.values_list("pk", flat=True))
    if dry_run:
        yield from (store.run_key(pk) for pk in (*left, *retention.expired().iterator()))
        return
    yield from _cleared(left)
    while batch := list(retention.expired()[:BATCH]):
        for pk in batch:
            retention.forget(pk, by=INSTANCE)
            yield from _cleared([pk])


def _cleared(runs: Iterable[UUID]) -> Iterator[str]:
    """Remove the files of these runs, of which no row speaks any more."""
    for pk in runs:
        key = store.run_key(pk)
        try:
            current().remove(key)
        except OSError as error:  # of these files alone
            logger.warning("%s is left: %s", key, error)
            continue
        Run.objects.filter(pk=pk).update(files_left=False)
        yield key
