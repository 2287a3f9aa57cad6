"""Where logs and outputs lie: `<storage>/outputs/<run>/<task index>/<attempt>/`, one for each attempt.

Of a task's attempts the last one is shown; what the earlier ones left is removed when it is known that they
are not the last.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.conf import settings

from gridapps.runs.models import Output, Task
from gridapps.runs.states import State
from gridapps.storage import directory
from gridapps.storage.directory import check_present


def root() -> Path:
    """The directory that nginx sends outputs from."""
    return Path(settings.STORAGE or settings.DATA) / "outputs"


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
        """Make the directory, without leftovers of a worker that died in it. Raises StorageUnavailable."""
        check_present(root())
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True, mode=0o750)

    def settle(self) -> None:
        """Return when log and files are on the disk: a row that survives a loss of power finds them."""
        directory.settle(self.directory)

    def remove_files(self) -> None:
        """Remove the outputs of an attempt that did not end the task; its log stays to be read."""
        shutil.rmtree(self.files, ignore_errors=True)

    def remove_others(self) -> None:
        """Remove what the task's other attempts left: this one is the last."""
        for other in self.directory.parent.glob("*"):
            if other != self.directory:
                shutil.rmtree(other, ignore_errors=True)


def tidy(*, task: UUID, attempt: int) -> None:
    """Remove what an attempt left that does not run any more, but not what its task shows."""
    row = Task.objects.filter(pk=task).first()
    if row is None or (row.attempt, row.state) == (attempt, State.RUNNING):
        return
    place = Place(row.run_id, row.index, attempt)
    if row.attempt != attempt:
        shutil.rmtree(place.directory, ignore_errors=True)
    elif not Output.objects.filter(task=row).exists():
        place.remove_files()
