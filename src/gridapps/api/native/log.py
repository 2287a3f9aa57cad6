"""`/runs/{id}/log`: the log of a run, as text, or as server-sent events while it is written."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Router
from pydantic import BeforeValidator, Field

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.api.native import request_thread
from gridapps.api.native.answers import reads
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import RunId, content
from gridapps.api.native.paging import Digits
from gridapps.api.native.runs import with_outputs
from gridapps.api.native.watching import address_of, watch
from gridapps.audit import record
from gridapps.runs import logs, queries, store
from gridapps.runs.models import Task
from gridapps.runs.states import TERMINAL, State
from gridapps.runs.store import AttemptFiles
from gridapps.storage.interface import StorageUnavailable

logger = logging.getLogger(__name__)
router = Router(tags=["runs"], auth=with_scope("runs:read"))
TaskIndex = Annotated[int | None, Field(strict=True, ge=0, lt=2**31, description="only this task"), Digits]
Follow = Annotated[
    Literal[0, 1],
    Field(description="1: server-sent events until the run has ended"),
    BeforeValidator(lambda value: {"0": 0, "1": 1}.get(value, value) if isinstance(value, str) else value),
]
_CHUNK = 256 * 1024
_LOOK = 0.3  # seconds between reads of the files
_LOOK_AT_OBJECTS = 1.0  # seconds between reads where new pieces come less often
_KEEP_ALIVE = 15.0  # seconds of silence after which a proxy may close the connection
_TEXT = {"schema": {"type": "string"}}


@router.get(
    "/runs/{run_id}/log",
    response=reads(404, 410, ok=None),
    operation_id="show_log",
    openapi_extra=content(200, **{"text/plain": _TEXT, "text/event-stream": _TEXT}),
)
async def show(
    request: HttpRequest, run_id: RunId, task: TaskIndex = None, follow: Follow = 0
) -> StreamingHttpResponse:
    """Lines `INDEX TIMESTAMP TEXT`, task by task, as far as they are written.

    With `follow`, server-sent events: `line` with `{"task", "at", "text"}` for each present and future line,
    and `end` with `{"state"}`. A new attempt of a task starts its log again.
    """
    user = user_of(request)
    run = await sync_to_async(_opened)(user, run_id)
    if follow:
        address = address_of(request)
        watch().check(user.pk, address)
        answer = StreamingHttpResponse(_events(user, address, run, task), content_type="text/event-stream")
        answer["Cache-Control"] = "no-store"
        answer["X-Accel-Buffering"] = "no"
    else:
        answer = StreamingHttpResponse(_lines(user, run, task), content_type="text/plain; charset=utf-8")
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def _opened(user: User, run_id: str) -> UUID:
    """The run whose log is read. Reading another user's is recorded in the audit."""
    run = with_outputs(user, run_id)
    if not permissions.owns(user, run):
        record.log_read(by=user, run=run.pk)
    return run.pk


@dataclass
class _Tail:
    """Reads the complete lines of a growing log, piece by piece."""

    index: int
    place: AttemptFiles
    offset: int = 0
    done: bool = False

    def read(self, *, ended: bool) -> list[str]:
        """The next complete lines, if any. `ended`: the log grows no more."""
        if self.done:
            return []
        piece = logs.read(self.place, self.offset, _CHUNK, ended=ended)
        # A line longer than a piece is cut into several.
        end = piece.rfind(b"\n") + 1 or (len(piece) if len(piece) == _CHUNK else 0)
        self.offset += end
        self.done = ended and not end and not store.is_shared()  # saves useless requests to S3
        # Only a line feed ends a line: programs may write other separators into one.
        return piece[:end].decode("utf-8", "replace").removesuffix("\n").split("\n") if end else []


@dataclass(frozen=True)
class _Present:
    """The attempts of a run that can have a log, at one moment."""

    state: State
    version: int
    attempts: dict[tuple[int, int], bool]  # whether it ended, by the task's index and its last attempt


def _present(user: User, run: UUID, task: int | None) -> _Present | None:
    """None when the user may no longer see the run: its owner may have hidden it again."""
    tasks = Task.objects.filter(run=run, attempt__gt=0).order_by("index")
    if task is not None:
        tasks = tasks.filter(index=task)
    row = queries.visible_to(user).filter(pk=run).values("state", "version").first()
    if row is None:
        return None
    rows = tasks.values_list("index", "attempt", "state")
    attempts = {(index, attempt): state != State.RUNNING for index, attempt, state in rows}
    return _Present(State(row["state"]), row["version"], attempts)


async def _lines(user: User, run: UUID, task: int | None) -> AsyncIterator[bytes]:
    present = await sync_to_async(_present)(user, run, task)
    await request_thread.release()
    for (index, attempt), ended in present.attempts.items() if present else ():
        tail = _Tail(index, AttemptFiles(run, index, attempt))
        while lines := await asyncio.to_thread(tail.read, ended=ended):
            yield "".join(f"{index} {line}\n" for line in lines).encode()


async def _events(user: User, address: str, run: UUID, task: int | None) -> AsyncIterator[bytes]:
    watching = watch()
    loop = asyncio.get_running_loop()
    look = _LOOK if store.is_shared() else _LOOK_AT_OBJECTS
    tails: dict[tuple[int, int], _Tail] = {}
    async with watching.place(user.pk, address):
        yield b": the log begins\n\n"
        last = loop.time()
        while True:
            # The state is read before the files, so that nothing written before the end is missed.
            present = await sync_to_async(_present)(user, run, task)
            await request_thread.release()
            if present is None:
                return
            tails = {
                key: tails.get(key) or _Tail(key[0], AttemptFiles(run, *key)) for key in present.attempts
            }
            changed = False
            while not changed:
                async for piece in _drain(tails, present.attempts):
                    last = loop.time()
                    yield piece
                if present.state in TERMINAL:
                    yield f"event: end\ndata: {json.dumps({'state': present.state})}\n\n".encode()
                    return
                if loop.time() - last > _KEEP_ALIVE:
                    last = loop.time()
                    yield b": still here\n\n"
                changed = await watching.change({run: present.version}, seconds=look, interval=look)


async def _drain(
    tails: dict[tuple[int, int], _Tail], ended: Mapping[tuple[int, int], bool]
) -> AsyncIterator[bytes]:
    for key, tail in tails.items():
        try:
            while lines := await asyncio.to_thread(tail.read, ended=ended[key]):
                yield b"".join(_event(tail.index, line) for line in lines)
        except StorageUnavailable as error:
            if all(ended.values()):  # there is no later read
                raise
            logger.warning("The log is read again later: %s", error)


def _event(index: int, line: str) -> bytes:
    at, _, text = line.partition(" ")
    return f"event: line\ndata: {json.dumps({'task': index, 'at': at, 'text': text})}\n\n".encode()
