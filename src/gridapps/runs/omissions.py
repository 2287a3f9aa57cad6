"""What tasks left in /grid and collection could not keep, as shown to users."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from django.db.models import Sum

from gridapps.runs.models import Run, Task

MOST_SHOWN = 100  # of one run


@dataclass(frozen=True)
class LeftOutFile:
    """`path` is relative to /grid, with unprintable characters escaped. `lost`: no output has its content."""

    task: UUID
    index: int
    path: str
    why: str
    lost: bool


@dataclass(frozen=True)
class LeftOutFiles:
    """Those of a run: how many there are, and the first of them."""

    count: int
    first: list[LeftOutFile]

    @property
    def unnamed(self) -> int:
        """How many are not among the first."""
        return self.count - len(self.first)


def left_out_of_run(run: Run) -> LeftOutFiles:
    """The omissions of the ended tasks of a run."""
    tasks = Task.objects.filter(run=run, left_out_count__gt=0).order_by("index")
    count = tasks.aggregate(sum=Sum("left_out_count"))["sum"] or 0
    named = (each for task in tasks.iterator(chunk_size=100) for each in left_out_of_task(task))
    return LeftOutFiles(count, list(islice(named, MOST_SHOWN)))


def left_out_of_task(task: Task) -> Iterator[LeftOutFile]:
    """The first omissions of a task."""
    for each in task.left_out:
        yield LeftOutFile(task.pk, task.index, each["path"], each["why"], each.get("lost", True))


def count(task: Task) -> int:
    """How many omissions a task has. Rows of earlier versions have no number."""
    return max(task.left_out_count, len(task.left_out))
