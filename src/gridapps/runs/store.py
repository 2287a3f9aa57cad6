"""Where logs and outputs lie: `<data>/outputs/<run>/<task index>/<attempt>/`, one directory per attempt."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.conf import settings


def root() -> Path:
    """The directory that nginx sends outputs from."""
    return Path(settings.DATA) / "outputs"


@dataclass(frozen=True)
class Place:
    """The directory of one attempt.

    `log` is written while the task runs; `files` is complete before the winning `finish` makes it visible.
    """

    run: UUID
    index: int
    attempt: int

    @property
    def directory(self) -> Path:
        return root() / str(self.run) / str(self.index) / str(self.attempt)

    @property
    def log(self) -> Path:
        """Lines of `TIMESTAMP TEXT`, progress taken out."""
        return self.directory / "log"

    @property
    def files(self) -> Path:
        return self.directory / "files"

    def make(self) -> None:
        """Make the directory, without leftovers of an earlier worker that died in it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True, mode=0o750)
