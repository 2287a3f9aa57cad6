"""The state, progress, times and reason of a run, derived from the rows of its tasks."""

from typing import Any
from uuid import UUID

from django.db.models import Exists, F, QuerySet, Sum
from django.db.models.functions import Now

from gridapps.moves import move
from gridapps.runs import hooks
from gridapps.runs.models import Run, Task
from gridapps.runs.states import MOVES, TERMINAL, State, run_state


def refresh_run(run_id: UUID, *, message: str | None = None, moved: bool = True) -> None:
    """Derive a run's state and progress from its tasks. Call it in the transaction that changed a task.

    `moved`: whether progress may have changed. Its cost grows with the number of tasks.
    """
    run = Run.objects.select_for_update().get(pk=run_id)
    tasks = Task.objects.filter(run=run_id)
    before = run.state, run.progress
    state = run_state(_states(run_id, tasks))
    starts = state != State.QUEUED and run.started_at is None
    changes: dict[str, Any] = {"version": run.version + 1}
    if moved:
        changes["progress"] = _progress(tasks)
    if message is not None:
        changes["message"] = message[:200]
    if starts:
        changes["started_at"] = Now()
    if state in TERMINAL:
        changes |= {"ended_at": Now()} | _reason(tasks, state)
    _write(run, state, changes)
    hooks.announce(run, started=starts, before=before)


def _states(run_id: UUID, tasks: QuerySet[Task]) -> set[State]:
    """The states in which at least one task is. One EXISTS for each, because counting would read every
    task."""
    looks = [Exists(tasks.filter(state=state)) for state in State]
    found = Run.objects.filter(pk=run_id).values_list(*looks).get()
    return {state for state, exists in zip(State, found, strict=True) if exists}


def _progress(tasks: QuerySet[Task]) -> float:
    """0 to 1, with each task weighted by the points of its export file."""
    weighted = tasks.aggregate(
        done=Sum(F("exportfile__points") * F("progress")), total=Sum(F("exportfile__points") * 1.0)
    )
    fraction: float = (weighted["done"] or 0) / weighted["total"]
    return min(max(fraction, 0), 1)


def _reason(tasks: QuerySet[Task], state: State) -> dict[str, str]:
    """The reason of the first task that gave the run its state."""
    cause = tasks.filter(state=state).exclude(reason="").order_by("index").first()
    reason, text = (cause.reason, cause.reason_text) if cause else ("", "")
    return {"reason": reason, "reason_text": text}


def _write(run: Run, state: State, changes: dict[str, Any]) -> None:
    """Write to the row of the run, which is locked, and to `run`."""
    row = Run.objects.filter(pk=run.pk)
    if state == run.state:
        row.update(**changes)
    elif not move(row, state, MOVES, **changes):
        raise RuntimeError(f"The run {run.pk} is {run.state}, and its tasks make it {state}.")
    for name, value in {"state": state, **changes}.items():
        setattr(run, name, value)
