"""The page of a run."""

import json
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from gridapps.runs import models, operations, queries, retention
from gridapps.runs.errors import Conflict
from gridapps.runs.position import position
from gridapps.runs.states import ACTIVE, State
from gridapps.web.forms import user_of

OUTPUTS_SHOWN = 500


@require_GET
@login_required
def show(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """State and progress, kept up to date by a script; tasks, log, outputs."""
    run = _own(request, run_id)
    return render(
        request,
        "run.html",
        {
            "run": run,
            "active": run.state in ACTIVE,
            "arguments": json.dumps(run.arguments, indent=2, ensure_ascii=False),
            "position": position(run) if run.state == State.QUEUED else None,
            "tasks": queries.with_tasks(queries.visible_to(user_of(request))).get(pk=run.pk).tasks.all(),
            "outputs": queries.outputs(run)[:OUTPUTS_SHOWN],
            "outputs_expire_at": retention.expire_at(run),
        },
    )


@require_POST
@login_required
def cancel(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Stop the run."""
    try:
        operations.cancel(by=user_of(request), run=_own(request, run_id))
    except Conflict as error:
        messages.error(request, str(error))
    return redirect("run", run_id)


@require_POST
@login_required
def delete_outputs(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Remove what the run left; the run itself stays."""
    try:
        retention.remove(by=user_of(request), run=_own(request, run_id))
    except Conflict as error:
        messages.error(request, str(error))
    return redirect("run", run_id)


def _own(request: HttpRequest, run_id: UUID) -> models.Run:
    run = queries.visible_to(user_of(request)).filter(pk=run_id).first()
    if run is None:
        raise Http404
    return run
