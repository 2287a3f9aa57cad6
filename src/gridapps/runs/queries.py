"""Reads: which runs a user sees, and what a run consists of."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Count, Prefetch, QuerySet

from gridapps.access.models import User
from gridapps.runs.models import Attempt, Output, Run, Task
from gridapps.runs.states import State


def visible_to(user: User) -> QuerySet[Run]:
    """The runs that this user may see: those the user submitted."""
    return Run.objects.filter(owner=user.pk).select_related("release__app")


def with_tasks(runs: QuerySet[Run]) -> QuerySet[Run]:
    """The same runs with their tasks and attempts, in two more queries."""
    tasks = Task.objects.select_related("exportfile").prefetch_related(
        Prefetch("attempts", Attempt.objects.order_by("number"))
    )
    return runs.prefetch_related(Prefetch("tasks", tasks.order_by("index")))


def task_counts(runs: Iterable[UUID]) -> dict[UUID, dict[State, int]]:
    """How many tasks of each run are in each state; states without tasks are absent."""
    counts: dict[UUID, dict[State, int]] = {run: {} for run in runs}
    rows = Task.objects.filter(run__in=list(counts)).order_by().values("run", "state").annotate(n=Count("pk"))
    for row in rows:
        counts[row["run"]][State(row["state"])] = row["n"]
    return counts


def outputs(run: Run) -> QuerySet[Output]:
    """The outputs of a run's ended tasks, in the order of tasks and paths."""
    return Output.objects.filter(task__run=run).select_related("task").order_by("task__index", "path")
