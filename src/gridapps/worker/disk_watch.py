"""Watching the free disk of a node, below whose floor it claims no tasks."""

import logging

from gridapps.runs import node_disk
from gridapps.storage.free_disk import FreeDisk

logger = logging.getLogger(__name__)


class FloorWatch:
    """`last` is what was measured last, for the report; None before the first time."""

    def __init__(self) -> None:
        self.last: FreeDisk | None = None
        self._short = False

    def is_short(self) -> bool:
        """Measure, and return whether there is less than the floor. Raises OSError, StorageUnavailable."""
        found = self.last = node_disk.free()
        if found.is_short != self._short:
            self._short = found.is_short
            logger.warning(
                "%s: %s", "No task is claimed" if found.is_short else "Tasks are claimed again", found
            )
        return found.is_short
