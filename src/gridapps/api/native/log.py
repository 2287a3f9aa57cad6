"""`/runs/{id}/log`: the log of a run, as text, or as server-sent events while it is written."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Literal
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Router
from pydantic import BeforeValidator, Field

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.api.errors import ApiError
from gridapps.api.native import log_cursor, request_thread
from gridapps.api.native.answers import reads
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import RunId, content
from gridapps.api.native.log_cursor import Attempt, Cursor
from gridapps.api.native.paging import Digits
from gridapps.api.native.runs import with_outputs
from gridapps.api.native.watching import PAUSE, address_of, watch
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
AfterEvent = Annotated[str, Field(max_length=log_cursor.LONGEST, description="the id of an event")]
_RETRY = 1000  # milliseconds until a reader connects again
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
    request: HttpRequest, run_id: RunId, task: TaskIndex = None, follow: Follow = 0, after: AfterEvent = ""
) -> StreamingHttpResponse:
    """Lines `INDEX TIMESTAMP TEXT`, task by task, as far as they are written.

    With `follow`, server-sent events: `line` with `{"task", "at", "text"}` for each present and future line,
    and `end` with `{"state"}`. A new attempt of a task starts its log again. With the id of an event in
    `Last-Event-ID` or `after` the events continue behind it; otherwise `begin` precedes the first line. When
    too many clients wait, the stream ends early: connect again after `retry` milliseconds.
    """
    user = user_of(request)
    run = await sync_to_async(_opened)(user, run_id, task)
    if follow:
        stream = _Stream(user, run, task, log_cursor.decoded(request.headers.get("Last-Event-ID") or after))
        pieces = stream.events(address_of(request))
        answer = StreamingHttpResponse(pieces, content_type="text/event-stream")
        answer["Cache-Control"] = "no-store"
        answer["X-Accel-Buffering"] = "no"
    else:
        answer = StreamingHttpResponse(_lines(user, run, task), content_type="text/plain; charset=utf-8")
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def _opened(user: User, run_id: str, task: int | None) -> UUID:
    """The run whose log is read. Reading another user's is recorded in the audit. Raises ApiError (404)."""
    run = with_outputs(user, run_id)
    if task is not None and not run.tasks.filter(index=task).exists():
        raise ApiError(
            "not-found", f"The run has no task {task}: its tasks are 0 to {run.tasks.count() - 1}."
        )
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
    complete: bool = False  # the attempt has ended, and everything was read

    def read(self, *, ended: bool) -> list[str]:
        """The next complete lines, if any. `ended`: the log grows no more."""
        return [line.decode("utf-8", "replace") for line, _ in self.pieces(ended=ended)]

    def pieces(self, *, ended: bool) -> list[tuple[bytes, int]]:
        """The next complete lines, each with the offset of its end."""
        if self.done:
            return []
        part = logs.read(self.place, self.offset, _CHUNK, ended=ended)
        piece = part.text
        # A line longer than a piece is cut into several.
        end = piece.rfind(b"\n") + 1 or (len(piece) if len(piece) == _CHUNK else 0)
        self.complete = ended and not end
        self.done = self.complete and not store.is_shared()  # saves useless requests to S3
        # Only a line feed ends a line: programs may write other separators into one.
        lines = piece[:end].removesuffix(b"\n").split(b"\n") if end else []
        begin = part.end - len(piece)
        ends = [begin + at for at in accumulate(len(line) + 1 for line in lines)]
        self.offset = begin + end
        return list(zip(lines, [*ends[:-1], self.offset][: len(lines)], strict=True))


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


class _Stream:
    """The events of one request."""

    def __init__(self, user: User, run: UUID, task: int | None, after: Cursor | None) -> None:
        self._user = user
        self._run = run
        self._task = task
        self._after = after
        self._tails: dict[Attempt, _Tail] = {}

    async def events(self, address: str) -> AsyncIterator[bytes]:
        """Everything until the run has ended; without a place for waiting, everything that there is."""
        async with watch().place(self._user.pk, address) as free:
            yield b"retry: %d\n\n" % (_RETRY if free else PAUSE * 1000)
            if self._after is None:
                yield b"event: begin\ndata: {}\n\n"
            async for piece in self._until_end(follow=free):
                yield piece

    async def _until_end(self, *, follow: bool) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        look = _LOOK if store.is_shared() else _LOOK_AT_OBJECTS
        last = loop.time()
        while True:
            # The state is read before the files, so that nothing written before the end is missed.
            present = await sync_to_async(_present)(self._user, self._run, self._task)
            await request_thread.release()
            if present is None:
                return
            self._tails = {key: self._tails.get(key) or self._tail(key) for key in present.attempts}
            changed = False
            while not changed:
                async for piece in self._drain(present.attempts):
                    last = loop.time()
                    yield piece
                if present.state in TERMINAL:
                    yield f"event: end\ndata: {json.dumps({'state': present.state})}\n\n".encode()
                    return
                if not follow:
                    return
                if loop.time() - last > _KEEP_ALIVE:
                    last = loop.time()
                    yield b": still here\n\n"
                seen = {self._run: present.version}
                changed = await watch().change(seen, seconds=look, interval=look)

    def _tail(self, key: Attempt) -> _Tail:
        tail = _Tail(key[0], AttemptFiles(self._run, *key))
        if self._after is not None:
            offset = self._after.offset(key)
            tail.complete, tail.done = offset is None, offset is None
            tail.offset = offset or 0
        return tail

    async def _drain(self, ended: Mapping[Attempt, bool]) -> AsyncIterator[bytes]:
        for key, tail in self._tails.items():
            try:
                while lines := await asyncio.to_thread(tail.pieces, ended=ended[key]):
                    yield b"".join(self._numbered(key, lines))
            except StorageUnavailable as error:
                if all(ended.values()):  # there is no later read
                    raise
                logger.warning("The log is read again later: %s", error)

    def _numbered(self, key: Attempt, lines: list[tuple[bytes, int]]) -> Iterator[bytes]:
        """The events of these lines, each with the id behind it."""
        others = {each: tail for each, tail in self._tails.items() if each != key}
        whole = [index for (index, number), tail in others.items() if tail.complete and number == 1]
        offsets = {
            each: tail.offset
            for each, tail in others.items()
            if tail.offset and not (tail.complete and each[1] == 1)
        }
        fixed = log_cursor.encoded(whole, offsets)
        beginning = f"{fixed}," if fixed else ""
        # Without an id, a reader that connects again starts from the beginning.
        known = bool(fixed) or not (whole or offsets)
        for line, end in lines:
            number = f"{beginning}{key[0]}.{key[1]}:{end}"
            fits = known and len(number) <= log_cursor.LONGEST
            yield _event(key[0], line.decode("utf-8", "replace"), number if fits else "")


def _event(index: int, line: str, number: str) -> bytes:
    at, _, text = line.partition(" ")
    data = json.dumps({"task": index, "at": at, "text": text})
    return f"id: {number}\nevent: line\ndata: {data}\n\n".encode()
