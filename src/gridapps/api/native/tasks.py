"""`/tasks`: runs in the shape of GRiD v3's tasks."""

from django.http import HttpRequest
from ninja import Router

from gridapps.api.native import run_answers
from gridapps.api.native.answers import reads
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import RunIds
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.parsing import uuids
from gridapps.api.native.shapes import State, Task, TasksAnswer
from gridapps.runs import models, queries

router = Router(tags=["tasks"], auth=with_scope("runs:read"))


@router.get("/tasks", response=reads(ok=TasksAnswer), operation_id="list_tasks", exclude_unset=True)
def index(
    request: HttpRequest, state: State | None = None, limit: Limit = 100, after: After = None
) -> TasksAnswer:
    """Your runs as tasks, newest first."""
    rows = queries.owned_by(user_of(request))
    if state:
        rows = rows.filter(state=state)
    found, following = page(request, rows, ("-created_at", "-id"), limit=limit, after=after)
    return TasksAnswer(tasks=[_shown(run) for run in found], **following)


@router.get(
    "/tasks/{task_id}", response=reads(404, ok=TasksAnswer), operation_id="show_tasks", exclude_unset=True
)
def show(request: HttpRequest, task_id: RunIds) -> TasksAnswer:
    """One task, or several with their keys separated by commas."""
    found = run_answers.visible(user_of(request), uuids(task_id))
    return TasksAnswer(tasks=[_shown(run) for run in found])


def _shown(run: models.Run) -> Task:
    return Task(
        task_id=str(run.pk),
        name="runs.tasks.run_app",
        state=run.state,
        time_stamp=run.ended_at or run.started_at or run.created_at,
        object_id=run.export_id,
    )
