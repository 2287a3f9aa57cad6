"""`/runs`: submit, list, show and wait, cancel, retry."""

from typing import Annotated
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from ninja import Body, Router, Status
from pydantic import Field

from gridapps.access.models import User
from gridapps.api.native import request_thread, run_answers
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import AppId, RunId, RunIds, etag, if_none_match
from gridapps.api.native.paging import After, Digits, Flag, Limit, page
from gridapps.api.native.parsing import uuid, uuids
from gridapps.api.native.run_shapes import (
    ExportFileSubmission,
    ExportSubmission,
    Run,
    RunsAnswer,
    Submission,
    SubmittedAnswer,
)
from gridapps.api.native.shapes import State
from gridapps.api.native.watching import address_of, watch
from gridapps.registry.models import APP_ID
from gridapps.runs import models, operations, queries, retention
from gridapps.runs.states import TERMINAL

router = Router(tags=["runs"], auth=with_scope("runs:read", "runs:write"))
Wait = Annotated[
    int, Field(strict=True, ge=0, le=60, description="seconds to wait for the next change"), Digits
]
Prefix = Annotated[
    str | None, Field(pattern="^[0-9a-f]{1,32}$", description="the first digits of the id, without hyphens")
]
TaskSpan = Annotated[
    str | None,
    Field(
        pattern="^[0-9]{1,9}-[0-9]{1,9}$",
        description="only the tasks with these indexes",
    ),
]
AppFilter = Annotated[str | None, Field(pattern=APP_ID)]


@router.post(
    "/apps/{slug:app_id}/runs",
    response=writes(404, 409, 429, 507, body=True, status_202=SubmittedAnswer),
    operation_id="submit_run",
)
def submit(request: HttpRequest, app_id: AppId, body: Body[Submission]) -> Status[SubmittedAnswer]:
    """Run an App on every file of an export, or on one export file."""
    run, _ = operations.submit(by=user_of(request), request=_request(app_id, body))
    return Status(202, run_answers.submitted(run))


@router.put(
    "/apps/{slug:app_id}/runs/{key}",
    response=writes(404, 409, 429, 507, body=True, status_200=SubmittedAnswer, status_202=SubmittedAnswer),
    operation_id="submit_run_once",
)
def submit_once(
    request: HttpRequest, app_id: AppId, key: RunId, body: Body[Submission]
) -> Status[SubmittedAnswer]:
    """Submit a run under a key that the client chose. Repeating the request returns the same run."""
    run, new = operations.submit(by=user_of(request), request=_request(app_id, body), request_key=uuid(key))
    return Status(202 if new else 200, run_answers.submitted(run))


@router.get("/runs", response=reads(ok=RunsAnswer), operation_id="list_runs", exclude_unset=True)
def index(
    request: HttpRequest,
    *,
    state: State | None = None,
    app: AppFilter = None,
    shown: Flag = False,
    prefix: Prefix = None,
    limit: Limit = 100,
    after: After = None,
) -> RunsAnswer:
    """Your runs, newest first, without tasks; `shown`: those that users show to you as a developer."""
    user = user_of(request)
    rows = queries.shown_to(user) if shown else queries.owned_by(user)
    if state:
        rows = rows.filter(state=state)
    if app:
        rows = rows.filter(release__app__app_id=app)
    if prefix:
        rows = queries.with_prefix(rows, prefix)
    found, following = page(request, rows, ("-created_at", "-id"), limit=limit, after=after)
    return RunsAnswer(runs=run_answers.shown(user, found, tasks=False), **following)


@router.get(
    "/runs/{run_id}",
    response=reads(404, ok=RunsAnswer) | {304: None},
    operation_id="show_runs",
    exclude_unset=True,
    openapi_extra=etag(200) | if_none_match(),
)
async def show(
    request: HttpRequest, response: HttpResponse, run_id: RunIds, wait: Wait = 0, tasks: TaskSpan = None
) -> Status[RunsAnswer | None]:
    """One run, or several with their keys separated by commas.

    `wait` delays the answer until the next change, or until the time is up. With `If-None-Match`, a change
    since then is answered at once, and no change with 304. When too many clients wait, the answer comes after
    a few seconds even without a change. `tasks` limits the tasks in the answer, for runs of very many.
    """
    user, keys = user_of(request), uuids(run_id)
    first, _, last = (tasks or "").partition("-")
    span = (int(first), int(last)) if tasks else None
    found = await sync_to_async(whole)(user, keys, span)
    known = request.headers.get("If-None-Match")
    if wait and known in {None, _etag(found)} and not all(run.state in TERMINAL for run in found):
        watching = watch()
        address = address_of(request)
        await request_thread.release()
        async with watching.place(user.pk, address) as free:
            if free:
                await watching.change({UUID(run.id): run.version for run in found}, seconds=wait)
        if not free:
            await watching.pause(user.pk, address, seconds=wait)
        found = await sync_to_async(whole)(user, keys, span)
    response["ETag"] = _etag(found)
    if known == _etag(found):
        return Status(304, None)
    return Status(200, RunsAnswer(runs=found))


@router.post(
    "/runs/{run_id}/cancel",
    response=writes(404, 409, body=False, status_202=RunsAnswer),
    operation_id="cancel_run",
    exclude_unset=True,
)
def cancel(request: HttpRequest, run_id: RunId) -> Status[RunsAnswer]:
    """Cancel a run. Its state is CANCELED when its containers have stopped."""
    user, key = user_of(request), uuid(run_id)
    operations.cancel(by=user, run=run_answers.owned(user, [key])[0])
    return Status(202, RunsAnswer(runs=whole(user, [key])))


@router.post(
    "/runs/{run_id}/retry",
    response=writes(404, 409, 429, 507, body=False, status_202=SubmittedAnswer),
    operation_id="retry_run",
)
def retry(request: HttpRequest, run_id: RunId) -> Status[SubmittedAnswer]:
    """Run failed and canceled tasks again, as a new run."""
    user = user_of(request)
    return Status(202, run_answers.submitted(operations.retry(by=user, run=only(user, run_id))))


def only(user: User, run_id: str) -> models.Run:
    """The one run of this key, if it is the user's own. Raises ApiError (404)."""
    return run_answers.owned(user, [uuid(run_id)])[0]


def readable(user: User, run_id: str) -> models.Run:
    """The one run of this key, if the user may see it. For calls that read. Raises ApiError (404)."""
    return run_answers.visible(user, [uuid(run_id)])[0]


def whole(user: User, keys: list[UUID], span: tuple[int, int] | None = None) -> list[Run]:
    """The runs with their tasks, or with those from the first to the last of these indexes. Raises ApiError
    (404)."""
    return run_answers.shown(user, run_answers.visible_with_tasks(user, keys, span), tasks=True)


def with_outputs(user: User, run_id: str) -> models.Run:
    """The run of `readable`, if outputs and log were not removed. Raises ApiError (404), OutputsRemoved."""
    run = readable(user, run_id)
    retention.require_kept(run)
    return run


def _etag(runs: list[Run]) -> str:
    return f'"{"-".join(str(run.version) for run in runs)}"'


def _request(app_id: str, body: ExportSubmission | ExportFileSubmission) -> operations.Request:
    return operations.Request(
        app=app_id,
        export=body.export if isinstance(body, ExportSubmission) else None,
        exportfile=body.exportfile if isinstance(body, ExportFileSubmission) else None,
        arguments=body.arguments,
        release=body.release or None,
        resources=body.resources.named() or None,
        priority=body.priority,
        hook=body.hook.wanted() if body.hook else None,
    )
