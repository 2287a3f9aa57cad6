"""`/runs/{id}/outputs`: the list, one file (which nginx sends), everything as a zip (made on the way).

What lies in S3 is streamed through here, in pieces: clients need neither a way to it nor its certificate.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from ninja import Router, Status
from zipstream import ZipStream

from gridapps.access.models import User
from gridapps.api import errors
from gridapps.api.native import ranges
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import OutputPath, RunId, content
from gridapps.api.native.downloads import BINARY, as_file
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.parsing import not_found
from gridapps.api.native.run_shapes import Output, OutputsAnswer, RunLeftOut
from gridapps.api.native.runs import only, with_outputs
from gridapps.audit import record
from gridapps.runs import models, omissions, queries, retention, store
from gridapps.runs.states import State
from gridapps.storage.interface import Missing

router = Router(tags=["runs"], auth=with_scope("runs:read", "runs:write"))
MAX_ZIPPED = 200_000  # outputs in one zip, whose directory is kept in memory: 600 bytes each
_LIST_OF_LEFT_OUT = "left-out.txt"  # outputs are below a directory for each task, so none has this name
_PIECE = 1024**2  # bytes of a zip that are produced at a time


@router.get(
    "/runs/{run_id}/outputs",
    response=reads(404, 410, ok=OutputsAnswer),
    operation_id="list_outputs",
    exclude_unset=True,
)
def index(request: HttpRequest, run_id: RunId, limit: Limit = 100, after: After = None) -> OutputsAnswer:
    """The outputs of the tasks that have ended, task by task, and what they left that could not be kept."""
    run = with_outputs(user_of(request), run_id)
    found, following = page(request, queries.outputs(run), ("task__index", "path"), limit=limit, after=after)
    left_out = omissions.left_out_of_run(run)
    return OutputsAnswer(
        outputs=[_shown(run, output) for output in found],
        left_out=[
            RunLeftOut(path=f"{each.index}/{each.path}", task=str(each.task), why=each.why, lost=each.lost)
            for each in left_out.first
        ],
        left_out_count=left_out.count,
        **following,
    )


@router.delete(
    "/runs/{run_id}/outputs",
    response=writes(404, 409, body=False, status_204=None),
    operation_id="delete_outputs",
)
def delete(request: HttpRequest, run_id: RunId) -> Status[None]:
    """Remove the outputs and the log of a run that has ended. This cannot be undone. The run stays."""
    user = user_of(request)
    retention.remove(by=user, run=only(user, run_id))
    return Status(204, None)


@router.get(
    "/runs/{run_id}/outputs.zip",
    response=reads(404, 410, 413, ok=None),
    operation_id="download_zip",
    openapi_extra=content(200, **{"application/zip": BINARY}),
)
def everything(request: HttpRequest, run_id: RunId) -> StreamingHttpResponse:
    """All outputs in one streamed zip, without compression, under their names of the list.

    `left-out.txt` in it lists what could not be kept, if there is anything.
    """
    user = user_of(request)
    run = with_outputs(user, run_id)
    if (count := queries.outputs(run).count()) > MAX_ZIPPED:
        raise errors.ApiError(
            "too-large",
            f"There are {count} outputs; a zip has at most {MAX_ZIPPED}. Download them one by one.",
        )
    _noted(user, run)
    archive = ZipStream(sized=True)
    with _unless_removed(run):
        names = _ZipNames()
        for output in queries.outputs(run).iterator():
            if (file := store.path(output)) is not None:
                archive.add_path(file, names.of(output))
            else:
                archive.add(_content(output), names.of(output), size=output.size)
    if (left_out := omissions.left_out_of_run(run)).count:
        archive.add(_list_of(left_out), _LIST_OF_LEFT_OUT)
    answer = StreamingHttpResponse(_pieces(iter(archive)), content_type="application/zip")
    # With the length, clients detect an incomplete download.
    answer["Content-Length"] = str(len(archive))
    return as_file(answer, f"{run.release.app.app_id}-{run.pk}.zip")


@router.get(
    "/runs/{run_id}/outputs/{path:path}",
    response=reads(404, 410, ok=None) | {206: None, 304: None, 416: None},
    operation_id="download_output",
    openapi_extra=content(200, **{"application/octet-stream": BINARY}),
)
def single(request: HttpRequest, run_id: RunId, path: OutputPath) -> HttpResponseBase:
    """The bytes of one output; ranges are supported. `path` is the task's index and the path below /grid."""
    user = user_of(request)
    run = with_outputs(user, run_id)
    number, _, inner = path.partition("/")
    if not (number.isascii() and number.isdigit() and len(number) < 10) or "\0" in inner:
        raise not_found()
    output = queries.outputs(run).filter(task__index=int(number), path=inner).first()
    if output is None:
        raise not_found()
    _noted(user, run)
    answer: HttpResponseBase
    if (url := store.private_url(output)) is not None:
        answer = HttpResponse(content_type="application/octet-stream")
        answer["X-Accel-Redirect"] = url
    else:
        with _unless_removed(run):
            answer = _streamed(request, output)
    return as_file(answer, output.path.rpartition("/")[2])


def _noted(user: User, run: models.Run) -> None:
    record.outputs_downloaded(by=user, run=run.pk)


def _streamed(request: HttpRequest, output: models.Output) -> HttpResponseBase:
    """Stream an output that is an object, with the response that nginx would give for a file."""
    tag = f'"{output.sha256}"'
    answer: HttpResponseBase
    span = ranges.requested(request.headers, size=output.size, tag=tag)
    if ranges.known(request.headers, tag=tag):
        answer = HttpResponse(status=304)
    elif span is ranges.UNSATISFIABLE:
        said = errors.say("range-not-satisfiable", f"The file ends after {output.size} bytes.")
        answer = JsonResponse(said.body, status=said.status)
        answer["Content-Range"] = f"bytes */{output.size}"
    else:
        start, stop = span or (0, output.size)
        pieces = store.read(output, start=start, stop=stop)
        answer = StreamingHttpResponse(_pieces(pieces), content_type="application/octet-stream")
        answer["Content-Length"] = str(stop - start)
        if span:
            answer.status_code = 206
            answer["Content-Range"] = f"bytes {start}-{stop - 1}/{output.size}"
    answer["ETag"] = tag
    answer["Accept-Ranges"] = "bytes"
    return answer


@contextmanager
def _unless_removed(run: models.Run) -> Iterator[None]:
    """Outputs that were removed after their rows were read are not an internal error."""
    try:
        yield
    except (Missing, FileNotFoundError):
        run.refresh_from_db()
        retention.require_kept(run)
        raise


def _content(output: models.Output) -> Iterator[bytes]:
    """Opened when the zip reaches it."""
    yield from store.read(output)


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


class _ZipNames:
    """The names of outputs in a zip. Some programs treat a backslash as a separator, and would extract to
    another directory. What replaces it may be the name of another output, so it is made unique."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, output: models.Output) -> str:
        name = f"{output.task.index}/{output.path}".replace("\\", "%5C")
        if "%5C" in name:
            while name in self._taken:
                name += "_"
            self._taken.add(name)
        return name


def _list_of(left_out: omissions.LeftOutFiles) -> bytes:
    """The text of the file that lists what a zip lacks."""
    lines = [f"{each.index}/{each.path} {each.why}" for each in left_out.first]
    if left_out.unnamed:
        lines.append(f"{left_out.unnamed} more.")
    return "".join(f"{line}\n" for line in lines).encode()


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
