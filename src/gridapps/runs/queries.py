"""Reads: which runs a user owns, which the user may see, and what a run consists of.

A user may show a run to the developer of its App, who then sees it and cannot change it. Code that changes
runs starts from `owned_by`, code that reads them from `visible_to`. No other module decides that.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Prefetch, Q, QuerySet

from gridapps.access.models import Developer, User
from gridapps.registry.models import Release
from gridapps.runs.models import Attempt, Output, Run, Task
from gridapps.runs.states import ACTIVE, State


def owned_by(user: User) -> QuerySet[Run]:
    """The runs that this user submitted, and may change."""
    return Run.objects.filter(owner=user.pk).select_related("release__app")


def shown_to(user: User) -> QuerySet[Run]:
    """The runs of other users that they show to this user as the developer of the App.

    The developer must own the App, which must not be deleted, and must be verified.
    """
    return Run.objects.filter(_shown_to(user)).exclude(owner=user.pk).select_related("release__app")


def visible_to(user: User) -> QuerySet[Run]:
    """The runs that this user may see: those of `owned_by` and of `shown_to`."""
    return Run.objects.filter(Q(owner=user.pk) | _shown_to(user)).select_related("release__app")


def with_prefix(runs: QuerySet[Run], digits: str) -> QuerySet[Run]:
    """Those whose ids begin with these 1 to 32 hexadecimal digits, by the index of the ids."""
    return runs.filter(pk__gte=UUID(digits.ljust(32, "0")), pk__lte=UUID(digits.ljust(32, "f")))


def releases_used(since: datetime) -> QuerySet[Release]:
    """The releases of active runs, and of those submitted since this moment."""
    runs = Run.objects.filter(Q(state__in=ACTIVE) | Q(created_at__gte=since))
    return Release.objects.filter(pk__in=runs.order_by().values("release"))


def with_tasks(runs: QuerySet[Run], span: tuple[int, int] | None = None) -> QuerySet[Run]:
    """The same runs with their tasks and attempts, in two more queries. `span`: only the tasks from the first
    to the last of these indexes."""
    tasks = _in_full(Task.objects.filter(index__range=span) if span else Task.objects.all())
    return runs.prefetch_related(Prefetch("tasks", tasks))


def tasks_of(run: Run) -> QuerySet[Task]:
    """The run's tasks in their order, with their attempts."""
    return _in_full(Task.objects.filter(run=run))


def _in_full(tasks: QuerySet[Task]) -> QuerySet[Task]:
    attempts = Prefetch("attempts", Attempt.objects.order_by("number"))
    return tasks.order_by("index").select_related("exportfile").prefetch_related(attempts)


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


def _shown_to(user: User) -> Q:
    return Q(
        shown_to_developer=True,
        release__app__owner=user.pk,
        release__app__deleted_at__isnull=True,
        release__app__owner__developer__state=Developer.State.VERIFIED,
    )
