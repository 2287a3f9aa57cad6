"""The queue: claim, heartbeat, progress, finish, release. A worker's writes are fenced by its token.

A claim is one short transaction. Leases use the database's clock, so the clocks of nodes do not matter.
Terminal states never change: each update names the states that it may leave.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Coalesce, Now

from gridapps.audit import record
from gridapps.moves import move
from gridapps.runs import lanes
from gridapps.runs.errors import CancelRequested, LostLease
from gridapps.runs.models import Attempt, Node, Output, Run, Task
from gridapps.runs.reasons import NOT_ALLOWED
from gridapps.runs.run_summary import refresh_run
from gridapps.runs.states import MOVES, TERMINAL, State
from gridapps.runs.store import CollectedFile

MAX_ATTEMPTS = 3  # attempts that failed because of the platform; a failure of the program is final
CANCELED = "Canceled."
_QUEUE_LOCK = 0x67726964  # the advisory lock of PostgreSQL for taking tasks out of the queue


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to work on one attempt of a task, for as long as the lease is renewed."""

    task: uuid.UUID
    run: uuid.UUID
    index: int
    attempt: int
    token: uuid.UUID


def claim(*, node: str, lease: timedelta, session: uuid.UUID | None = None) -> Claim | None:
    """Claim the next task for this node, in the order of `lanes`; None when there is none.

    A draining node gets none, and neither does a worker whose `session` does not act for the node.
    """
    with transaction.atomic():
        _lock()
        row = Node.objects.select_related("reserved").filter(pk=node).first()
        if row and (row.draining or session not in {None, row.session}):
            return None
        lanes.put_into_lanes()
        choice = lanes.choose(row)
        if row is not None:
            lanes.pass_over(row, choice)
        if (task := choice.task) is None:
            return None
        mine = Claim(
            task=task.id, run=task.run_id, index=task.index, attempt=task.attempt + 1, token=uuid.uuid4()
        )
        _move(
            Task.objects.filter(pk=task.pk, state=State.QUEUED),
            State.RUNNING,
            attempt=mine.attempt,
            token=mine.token,
            node=node,
            lane=None,
            lease_until=_from_now(lease),
            heard_at=Now(),
            progress=0,
            message="",
            started_at=Coalesce(F("started_at"), Now()),
        )
        lanes.taken(task)
        Attempt.objects.create(task=task, number=mine.attempt, node=node, started_at=Now())
        refresh_run(task.run_id, moved=False)
        return mine


def adopt(*, task: uuid.UUID, attempt: int, node: str, lease: timedelta) -> Claim | None:
    """Take over a running attempt of this node whose worker has ended; None if it no longer runs."""
    token = uuid.uuid4()
    running = Task.objects.filter(pk=task, state=State.RUNNING, attempt=attempt, node=node)
    if not running.update(token=token, lease_until=_from_now(lease)):
        return None
    row = Task.objects.get(pk=task)
    return Claim(task=row.id, run=row.run_id, index=row.index, attempt=attempt, token=token)


def renew(*, claims: Iterable[Claim], lease: timedelta) -> set[uuid.UUID]:
    """Heartbeat: renew the leases and return the tokens that still hold."""
    tokens = [claim.token for claim in claims]
    with transaction.atomic():
        held = Task.objects.filter(token__in=tokens, state=State.RUNNING)
        held.update(lease_until=_from_now(lease))
        return {token for token in held.values_list("token", flat=True) if token}


def cancel_requested(*, claims: Iterable[Claim]) -> set[uuid.UUID]:
    """The tokens of those claims whose run is to be canceled."""
    tokens = [claim.token for claim in claims]
    wanted = Task.objects.filter(token__in=tokens, run__cancel_requested_at__isnull=False)
    return {token for token in wanted.values_list("token", flat=True) if token}


def starting(*, claim: Claim, deadline: datetime) -> None:
    """Store the deadline of the container that is about to start.

    Raises LostLease, and CancelRequested: after a cancel that has been committed no program starts.
    """
    with transaction.atomic():
        _lock()  # as `cancel` does
        if Run.objects.filter(pk=claim.run, cancel_requested_at__isnull=False).exists():
            raise CancelRequested(f"run {claim.run}")
        _fenced(claim, deadline=deadline)


def progress(*, claim: Claim, fraction: float | None, message: str) -> None:
    """Store the progress, 0 to 1 (None keeps the last one), and its message. Raises LostLease."""
    changes = {} if fraction is None else {"progress": min(max(fraction, 0), 1)}
    with transaction.atomic():
        _fenced(claim, message=message[:200], **changes)
        refresh_run(claim.run, message=message)


def heard(*, claim: Claim) -> None:
    """Note that the program has just written to its log. Raises LostLease."""
    _fenced(claim, heard_at=Now())


def finish(
    *,
    claim: Claim,
    state: State,
    reason: str,
    text: str,
    exit_code: int | None = None,
    usage: dict[str, Any] | None = None,
    outputs: Sequence[CollectedFile] = (),
    left_out: Iterable[dict[str, Any]] = (),
    left_out_count: int = 0,
) -> None:
    """End the task, and make its outputs visible. Raises LostLease.

    Idempotent: it may be called again when the result of the first call was lost.
    """
    with transaction.atomic():
        task = Task.objects.select_for_update().filter(pk=claim.task).first()
        if task and task.state in TERMINAL and task.attempt == claim.attempt:
            return
        _move(
            _held(claim),
            state,
            token=None,
            lease_until=None,
            ended_at=Now(),
            progress=1 if state == State.SUCCESS else F("progress"),
            reason=reason,
            reason_text=text,
            exit_code=exit_code,
            usage=usage or {},
            left_out=list(left_out),
            left_out_count=left_out_count,
        )
        if reason == NOT_ALLOWED:
            record.run_not_allowed(run=claim.run, sentence=text)
        _insert(claim.task, outputs)
        _end_attempt(
            claim.task, claim.attempt, reason=reason, reason_text=text, exit_code=exit_code, usage=usage or {}
        )
        refresh_run(claim.run)


def _insert(task: uuid.UUID, outputs: Sequence[CollectedFile]) -> None:
    """Insert the rows of outputs. There may be very many, and SQLite has one writer at a time, so this does
    without model instances, which take six times as long."""
    if not outputs:
        return
    key = Task._meta.pk.get_db_prep_value(task, connection)
    names = [field.name for field in fields(CollectedFile)]
    table, columns = connection.ops.quote_name(Output._meta.db_table), ", ".join(["task_id", *names])
    marks = ", ".join(["%s"] * (len(names) + 1))
    rows = [(key, *(getattr(file, name) for name in names)) for file in outputs]
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608 - no input


def release(*, claim: Claim, reason: str, text: str) -> State:
    """Return a task to the queue; returns its new state.

    With `reason` "platform" the attempt counts as failed, and MAX_ATTEMPTS of them end the task. With
    "released" it does not: the node was told to stop, or cannot pull images. If the run is to be canceled,
    the task is canceled instead. Raises LostLease.
    """
    with transaction.atomic():
        _end_attempt(claim.task, claim.attempt, reason=reason, reason_text=text)
        state = _give_back(_held(claim), claim.task, text)
        refresh_run(claim.run)
        return state


def cancel(*, run: uuid.UUID, text: str = CANCELED) -> None:
    """Cancel a run: its queued tasks end now, running ones when their workers read the request.

    `text` is for the owner. Running tasks get the text of the first call.
    """
    with transaction.atomic():
        _lock()
        Run.objects.filter(pk=run, cancel_requested_at__isnull=True).update(
            cancel_requested_at=Now(), cancel_text=text
        )
        queued = Task.objects.filter(run=run, state=State.QUEUED)
        move(queued, State.CANCELED, MOVES, lane=None, ended_at=Now(), reason="canceled", reason_text=text)
        lanes.remove_empty(Run.objects.get(pk=run).owner_id)
        refresh_run(run, moved=False)


def expire() -> list[tuple[uuid.UUID, int, State]]:
    """Return the tasks with expired leases to the queue; returns each with its attempt and new state."""
    expired = Task.objects.filter(state=State.RUNNING, lease_until__lt=Now())
    given_back = []
    for task in list(expired[:1000]):
        with transaction.atomic():
            still = Task.objects.filter(pk=task.pk, token=task.token, lease_until__lt=Now())
            if not still.select_for_update().exists():
                continue
            text = f"Node {task.node} stopped reporting."
            _end_attempt(task.pk, task.attempt, reason="platform", reason_text=text)
            state = _give_back(still, task.pk, text)
            refresh_run(task.run_id)
            given_back.append((task.pk, task.attempt, state))
    return given_back


def lost(*, node: str, present: set[tuple[uuid.UUID, int]]) -> list[Claim]:
    """The attempts that, according to the database, run on this node, but are not in `present`."""
    rows = Task.objects.filter(state=State.RUNNING, node=node)
    return [
        Claim(task=row.id, run=row.run_id, index=row.index, attempt=row.attempt, token=row.token)
        for row in rows
        if row.token and (row.id, row.attempt) not in present
    ]


def _held(claim: Claim) -> QuerySet[Task]:
    return Task.objects.filter(pk=claim.task, token=claim.token, state=State.RUNNING)


def _fenced(claim: Claim, **changes: Any) -> None:
    if not _held(claim).update(**changes):
        raise LostLease(f"task {claim.task}, attempt {claim.attempt}")


def _move(tasks: QuerySet[Task], to: State, **changes: Any) -> None:
    """Move one task. Raises LostLease when another worker has moved it, or the table does not allow it."""
    if not move(tasks, to, MOVES, **changes):
        raise LostLease(f"the task cannot become {to} any more")


def _give_back(task: QuerySet[Task], pk: uuid.UUID, text: str) -> State:
    failures = Attempt.objects.filter(task=pk, reason="platform").count()
    canceled = Run.objects.filter(tasks=pk, cancel_requested_at__isnull=False).first()
    ended: dict[str, Any] = {"token": None, "lease_until": None, "deadline": None}
    if canceled is not None:
        _move(
            task,
            State.CANCELED,
            **ended,
            ended_at=Now(),
            reason="canceled",
            reason_text=canceled.cancel_text or CANCELED,
        )
        return State.CANCELED
    if failures >= MAX_ATTEMPTS:
        text = f"The platform failed {failures} times; the last time: {text}"
        _move(task, State.FAILURE, **ended, ended_at=Now(), reason="platform", reason_text=text)
        return State.FAILURE
    _move(task, State.QUEUED, **ended, progress=0, message=text[:200])
    return State.QUEUED


def _end_attempt(task: uuid.UUID, number: int, **end: Any) -> None:
    Attempt.objects.filter(task=task, number=number, ended_at__isnull=True).update(ended_at=Now(), **end)


def _lock() -> None:
    """Serialise the transactions that take tasks out of the queue. SQLite serialises all of them anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_QUEUE_LOCK])


def _from_now(span: timedelta) -> Any:
    return Now() + Value(span)
