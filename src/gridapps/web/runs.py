"""The page of a run."""

import json
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from gridapps.access import permissions
from gridapps.registry import queries as registry
from gridapps.runs import models, node_disk, omissions, operations, queries, retention
from gridapps.runs.errors import Conflict
from gridapps.runs.states import ACTIVE, State
from gridapps.runs.waiting import waits_for
from gridapps.web.forms import user_of
from gridapps.web.paged_lists import paged

OUTPUTS_ON_A_PAGE = 500
TASKS_ON_A_PAGE = 100


@require_GET
@login_required
def show(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """State and progress, which a script keeps up to date; tasks, log and outputs."""
    user = user_of(request)
    run = _one(queries.visible_to(user), run_id)
    owns = permissions.owns(user, run)
    tasks = paged(request, "tasks", queries.tasks_of(run), size=TASKS_ON_A_PAGE)
    indexes = [task.index for task in tasks.rows]
    return render(
        request,
        "run.html",
        {
            "run": run,
            "waits": node_disk.why_waiting(run) if run.state == State.QUEUED else "",
            "owns": owns,
            "may_show": owns and not registry.owns(user, run.release.app) and not run.release.app.deleted_at,
            "active": run.state in ACTIVE,
            "arguments": json.dumps(run.arguments, indent=2, ensure_ascii=False),
            "waiting": waits_for(run) if owns and run.state == State.QUEUED else None,
            "tasks": tasks,
            "span": f"{indexes[0]}-{indexes[-1]}" if indexes else "",
            "task_counts": queries.task_counts([run.pk])[run.pk].items(),
            "outputs": Paginator(queries.outputs(run), OUTPUTS_ON_A_PAGE).get_page(request.GET.get("page")),
            "left_out": omissions.left_out_of_run(run),
            "outputs_expire_at": retention.expire_at(run),
        },
    )


@require_POST
@login_required
def cancel(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Cancel the run."""
    try:
        operations.cancel(by=user_of(request), run=_own(request, run_id))
    except Conflict as error:
        messages.error(request, str(error))
    return redirect("run", run_id)


@require_POST
@login_required
def show_to_developer(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Let the developer of the App see the run."""
    try:
        operations.show_to_developer(by=user_of(request), run=_own(request, run_id))
    except Conflict as error:
        messages.error(request, str(error))
    return redirect("run", run_id)


@require_POST
@login_required
def delete_outputs(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Delete the outputs and the log; the run itself stays."""
    try:
        retention.remove(by=user_of(request), run=_own(request, run_id))
    except Conflict as error:
        messages.error(request, str(error))
    return redirect("run", run_id)


@require_POST
@login_required
def hide_from_developer(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Hide the run from the developer again."""
    operations.hide_from_developer(by=user_of(request), run=_own(request, run_id))
    return redirect("run", run_id)


def _own(request: HttpRequest, run_id: UUID) -> models.Run:
    return _one(queries.owned_by(user_of(request)), run_id)


def _one(runs: QuerySet[models.Run], run_id: UUID) -> models.Run:
    run = runs.filter(pk=run_id).first()
    if run is None:
        raise Http404
    return run
