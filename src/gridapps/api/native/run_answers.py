"""Runs as the API shows them."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import FloatField, Max, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from gridapps.access.models import User
from gridapps.access.permissions import owns
from gridapps.api.native.parsing import not_found
from gridapps.api.native.run_shapes import (
    Attempt,
    LeftOut,
    Run,
    RunTask,
    Submitted,
    SubmittedAnswer,
    Urls,
    Usage,
    WaitingFor,
)
from gridapps.api.native.shapes import Resources
from gridapps.runs import models, node_disk, omissions, queries, retention
from gridapps.runs.states import State
from gridapps.runs.waiting import WaitsFor, waits_for


def visible(user: User, keys: Sequence[UUID]) -> list[models.Run]:
    """The runs of these keys, in their order. Raises ApiError (404) unless the user may see all of them."""
    return _all(queries.visible_to(user), keys)


def visible_with_tasks(
    user: User, keys: Sequence[UUID], span: tuple[int, int] | None = None
) -> list[models.Run]:
    """The same with their tasks: all, or those from the first to the last of the indexes `span`."""
    return _all(queries.with_tasks(queries.visible_to(user), span), keys)


def owned(user: User, keys: Sequence[UUID]) -> list[models.Run]:
    """The same for calls that change runs: raises ApiError (404) unless the user owns all of them."""
    return _all(queries.owned_by(user), keys)


def submitted(run: models.Run) -> SubmittedAnswer:
    """The answer to a submission."""
    return SubmittedAnswer(runs=[Submitted(run_id=str(run.pk), task_id=str(run.pk))])


def shown(user: User, runs: Iterable[models.Run], *, tasks: bool) -> list[Run]:
    """The runs as this user sees them, with their tasks (which must have been fetched) or without.

    A developer to whom a run is shown learns nothing of other runs: neither which one it repeats, nor its
    position in the queue.
    """
    runs = list(runs)
    keys = [run.pk for run in runs]
    counts, usages = queries.task_counts(keys), _usages(keys)
    return [
        _shown(
            run,
            task_counts={state.value: count for state, count in counts[run.pk].items()},
            usage=usages.get(run.pk, _usage({})),
            retry_of=str(run.retry_of_id) if run.retry_of_id and owns(user, run) else None,
            **(_in_full(run, waits_for(run) if owns(user, run) else None) if tasks else {}),
        )
        for run in runs
    ]


def _all(rows: QuerySet[models.Run], keys: Sequence[UUID]) -> list[models.Run]:
    found = rows.in_bulk(keys)
    if len(found) < len(keys):
        raise not_found()
    return [found[key] for key in keys]


def _in_full(run: models.Run, waiting: WaitsFor | None) -> dict[str, Any]:
    waits = node_disk.why_waiting(run) if run.state == State.QUEUED else ""
    return {
        "queue_position": waiting and waiting.ahead.sum,
        "waiting_for": waiting
        and WaitingFor(
            cause=waiting.cause,
            text=waiting.text,
            own_tasks_ahead=waiting.ahead.own,
            other_tasks_ahead=waiting.ahead.others,
        ),
        "tasks": [_task(task) for task in run.tasks.all()],
        "message": waits or run.message,
    }


def _shown(run: models.Run, **more: Any) -> Run:
    key = str(run.pk)
    here = f"{settings.GRIDAPPS.origin}/api/v3/runs/{key}"
    return Run(
        id=key,
        task_id=key,
        app=run.release.app.app_id,
        release=run.release.digest,
        export=str(run.export_id),
        exportfile=str(run.exportfile_id) if run.exportfile_id else None,
        arguments=run.arguments,
        resources=Resources(cpus=run.cpus, memory=run.memory, disk=run.disk, time=run.time),
        priority=run.priority,
        state=run.state,
        progress=run.progress,
        reason=run.reason or None,
        reason_text=run.reason_text,
        version=run.version,
        created_at=run.created_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        cancel_requested=run.cancel_requested_at is not None,
        shown_to_developer=run.shown_to_developer,
        outputs_expire_at=retention.expire_at(run),
        outputs_removed_at=run.outputs_removed_at,
        urls=Urls(
            self=here,
            log=f"{here}/log",
            outputs=f"{here}/outputs",
            zip=f"{here}/outputs.zip",
            cancel=f"{here}/cancel",
            retry=f"{here}/retry",
        ),
        **{"message": run.message, **more},
    )


def _task(task: models.Task) -> RunTask:
    return RunTask(
        id=str(task.pk),
        index=task.index,
        exportfile=str(task.exportfile_id),
        name=task.exportfile.name,
        state=task.state,
        progress=task.progress,
        message=task.message,
        reason=task.reason or None,
        reason_text=task.reason_text,
        exit_code=task.exit_code,
        attempts=[_attempt(attempt) for attempt in task.attempts.all()],
        left_out=[
            LeftOut(path=each.path, why=each.why, lost=each.lost) for each in omissions.left_out_of_task(task)
        ],
        left_out_count=omissions.count(task),
        last_heard_at=task.heard_at if task.state == State.RUNNING else None,
        usage=_usage(task.usage),
        queued_at=task.queued_at,
        started_at=task.started_at,
        ended_at=task.ended_at,
    )


def _attempt(attempt: models.Attempt) -> Attempt:
    return Attempt(
        number=attempt.number,
        node=attempt.node,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        reason=attempt.reason or None,
        reason_text=attempt.reason_text,
        exit_code=attempt.exit_code,
        usage=_usage(attempt.usage),
    )


def _usages(runs: Sequence[UUID]) -> dict[UUID, Usage]:
    def number(name: str) -> Cast:
        return Cast(KT(f"usage__{name}"), FloatField())

    rows = (
        models.Task.objects.filter(run__in=runs)
        .order_by()
        .values("run")
        .annotate(
            cpu_seconds=Sum(number("cpu_seconds")),
            memory_bytes=Max(number("memory_bytes")),
            disk_bytes=Sum(number("disk_bytes")),
        )
    )
    return {row["run"]: _usage(dict(row)) for row in rows}


def _usage(facts: dict[str, Any]) -> Usage:
    return Usage(
        cpu_seconds=facts.get("cpu_seconds") or 0,
        memory_bytes=int(facts.get("memory_bytes") or 0),
        disk_bytes=int(facts.get("disk_bytes") or 0),
    )
