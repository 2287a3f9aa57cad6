"""`/runs/{id}/outputs`: the list, one file (which nginx sends), everything as a zip (made on the way)."""

from collections.abc import AsyncIterator, Iterator
from typing import TypeVar
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from ninja import Router
from zipstream import ZipStream

from gridapps.api.native.answers import reads
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.openapi import OutputPath, RunId, content
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.parsing import not_found
from gridapps.api.native.run_shapes import Output, OutputsAnswer
from gridapps.api.native.runs import only
from gridapps.runs import models, queries
from gridapps.runs.states import State
from gridapps.runs.store import Place

router = Router(tags=["runs"], auth=with_scope("runs:read"))
T = TypeVar("T", bound=HttpResponseBase)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PIECE = 1024**2  # bytes of a zip that are made in one step


@router.get(
    "/runs/{run_id}/outputs",
    response=reads(404, ok=OutputsAnswer),
    operation_id="list_outputs",
    exclude_unset=True,
)
def index(request: HttpRequest, run_id: RunId, limit: Limit = 100, after: After = None) -> OutputsAnswer:
    """What the tasks that have ended left, task by task."""
    run = only(user_of(request), run_id)
    found, following = page(request, queries.outputs(run), ("task__index", "path"), limit=limit, after=after)
    return OutputsAnswer(outputs=[_shown(run, output) for output in found], **following)


@router.get(
    "/runs/{run_id}/outputs.zip",
    response=reads(404, ok=None),
    operation_id="download_zip",
    openapi_extra=content(200, **{"application/zip": _BINARY}),
)
def everything(request: HttpRequest, run_id: RunId) -> StreamingHttpResponse:
    """Every output in one zip, streamed, not compressed again; names are those of the list."""
    run = only(user_of(request), run_id)
    archive = ZipStream(sized=True)
    for output in queries.outputs(run).iterator():
        archive.add_path(_place(output).files / output.path, _zip_name(output))
    answer = StreamingHttpResponse(_pieces(iter(archive)), content_type="application/zip")
    # The length lets a client see that a download broke off.
    answer["Content-Length"] = str(len(archive))
    return _attached(answer, f"{run.release.app.app_id}-{run.pk}.zip")


@router.get(
    "/runs/{run_id}/outputs/{path:path}",
    response=reads(404, ok=None) | {206: None, 304: None, 416: None},
    operation_id="download_output",
    openapi_extra=content(200, **{"application/octet-stream": _BINARY}),
)
def single(request: HttpRequest, run_id: RunId, path: OutputPath) -> HttpResponse:
    """The bytes of one output; ranges are possible. `path` is the task's index and the path below /grid."""
    run = only(user_of(request), run_id)
    number, _, inner = path.partition("/")
    if not (number.isascii() and number.isdigit() and len(number) < 10) or "\0" in inner:
        raise not_found()
    output = queries.outputs(run).filter(task__index=int(number), path=inner).first()
    if output is None:
        raise not_found()
    place = _place(output)
    inside = f"{place.run}/{place.index}/{place.attempt}/files/{output.path}"
    answer = HttpResponse(content_type="application/octet-stream")
    answer["X-Accel-Redirect"] = f"/internal/outputs/{quote(inside)}"
    return _attached(answer, output.path.rpartition("/")[2])


def _place(output: models.Output) -> Place:
    return Place(output.task.run_id, output.task.index, output.task.attempt)


def _shown(run: models.Run, output: models.Output) -> Output:
    path = f"{output.task.index}/{output.path}"
    return Output(
        path=path,
        task=str(output.task_id),
        size=output.size,
        sha256=output.sha256,
        media_type=output.media_type,
        partial=output.task.state != State.SUCCESS,
        url=f"{settings.GRIDAPPS.origin}/api/v3/runs/{run.pk}/outputs/{quote(path)}",
    )


def _zip_name(output: models.Output) -> str:
    # Some programs that unpack take a backslash for a separator, and would write elsewhere.
    return f"{output.task.index}/{output.path}".replace("\\", "%5C")


async def _pieces(archive: Iterator[bytes]) -> AsyncIterator[bytes]:
    def step() -> bytes:
        piece = bytearray()
        for part in archive:
            piece += part
            if len(piece) >= _PIECE:
                break
        return bytes(piece)

    while piece := await sync_to_async(step)():
        yield piece


def _attached(answer: T, name: str) -> T:
    answer["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, no-cache"
    return answer
