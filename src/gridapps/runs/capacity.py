"""The capacity of a node. Uses neither settings nor the database."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a node offers to tasks. Sizes in bytes."""

    slots: int
    cpus: float
    memory: int
    disk: int

    @classmethod
    def of_machine(
        cls,
        directory: Path,
        *,
        slots: int = 0,
        cpus: float = 0,
        memory: int = 0,
        disk: int = 0,
        held: int = 0,
        floor: int = 0,
    ) -> Self:
        """The given values. For each 0, the value of this machine: one slot per processor, all processors (at
        least one per slot), 3/4 of the memory, and the free space of the file system of `directory` beyond
        `floor`, plus `held`, the space that workspaces of an earlier worker use: their tasks are counted
        separately."""
        slots = slots or os.cpu_count() or 1
        return cls(
            slots=slots,
            cpus=cpus or max(os.cpu_count() or 1, slots),
            memory=memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4,
            disk=disk or max(shutil.disk_usage(directory).free - floor, 0) + held,
        )
