"""The open files of other processes."""

from collections.abc import Iterator
from pathlib import Path


def open_files(process: int | None = None) -> Iterator[Path]:
    """The links below /proc to the open files of a process, or of all processes.

    Processes that end meanwhile, and those that this account may not inspect, are left out.
    """
    for directory in Path("/proc").iterdir() if process is None else [Path(f"/proc/{process}")]:
        if directory.name.isdigit():
            try:
                yield from list((directory / "fd").iterdir())
            except OSError:
                continue
