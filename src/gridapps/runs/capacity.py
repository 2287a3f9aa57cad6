"""What a node has for tasks. It needs neither settings nor database."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a node has for tasks. Sizes in bytes."""

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
    ) -> Self:
        """What is given, and for each 0 what this machine has: a slot per processor, all processors (or one
        per slot, where more slots are wanted), 3/4 of the memory, what is free where `directory` lies and
        what a predecessor's workspaces hold (`held`): their tasks are counted by themselves."""
        slots = slots or os.cpu_count() or 1
        return cls(
            slots=slots,
            cpus=cpus or max(os.cpu_count() or 1, slots),
            memory=memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4,
            disk=disk or shutil.disk_usage(directory).free + held,
        )
