"""Where logs and outputs are stored: `outputs/RUN/TASK_INDEX/ATTEMPT/` of the storage, one for each attempt.

This module alone builds these keys, paths and URLs. In a directory, files are written where they stay: `log`
and `files/PATH`. For S3, an attempt is written on its node first and published when it ends: the object
`log`, and `files/SHA-256` for each content; while the program runs, pieces of its log go to `log.d/OFFSET`.
Of a log that is too long, `log` has the beginning and `log.tail/OFFSET` the newest lines.
In both cases the `finish` that succeeds makes it visible.

Users see the last attempt of a task. Files of earlier attempts are removed once a later one has ended.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from django.conf import settings

from gridapps.runs.models import Output, Task
from gridapps.runs.states import TERMINAL, State
from gridapps.storage.choice import current
from gridapps.storage.directory import check_present, make_directories, settle
from gridapps.storage.interface import StorageUnavailable

logger = logging.getLogger(__name__)

_TOP = "outputs"
_PRIVATE_URL = "/internal/outputs"  # the location in nginx that serves the directory of all outputs
_UPLOADS = 8  # files of one attempt at once


def is_shared() -> bool:
    """Whether attempts are written to a directory that every node and nginx can read."""
    return current().local(_TOP) is not None


@dataclass(frozen=True)
class CollectedFile:
    """A file that was collected. `path` is relative, with / between names; `size` is in bytes."""

    path: str
    size: int
    sha256: str
    media_type: str


@dataclass(frozen=True)
class AttemptFiles:
    """The log and the outputs of one attempt."""

    run: UUID
    index: int
    attempt: int

    @property
    def key(self) -> str:
        return f"{run_key(self.run)}/{self.index}/{self.attempt}"

    @property
    def log_key(self) -> str:
        """The object of the whole log."""
        return f"{self.key}/log"

    @property
    def pieces_key(self) -> str:
        """The prefix of the objects with the pieces of a growing log."""
        return f"{self.key}/log.d"

    def piece_key(self, offset: int) -> str:
        return f"{self.pieces_key}/{offset:012}"

    @property
    def tail_key(self) -> str:
        """The prefix of the newest lines of a log that is too long, in pieces named by their offset."""
        return f"{self.key}/log.tail"

    def tail_piece_key(self, offset: int) -> str:
        return f"{self.tail_key}/{offset:012}"

    @property
    def directory(self) -> Path:
        """The directory that its node writes."""
        return current().local(self.key) or _staging() / self.key

    @property
    def log(self) -> Path:
        """Lines of `TIMESTAMP TEXT`, without those that report progress."""
        return self.directory / "log"

    @property
    def tail(self) -> Path:
        """The newest lines of a log that is too long: files named by the offset of their first byte."""
        return self.directory / "log.tail"

    def newest_log(self) -> Path:
        """The file with the newest lines of the log."""
        return max(self.tail.glob("*"), default=self.log)

    @property
    def files(self) -> Path:
        return self.directory / "files"

    def tail_pieces(self) -> list[tuple[int, int]]:
        """Offset and size of each piece of the newest lines, in order. Raises StorageUnavailable."""
        return _placement().tail_pieces(self)

    def make(self) -> int:
        """Make the directory, empty even if a worker died while it wrote there. Returns the offset behind the
        newest lines that it had written. Raises StorageUnavailable.
        """
        end = max((start + size for start, size in self.tail_pieces()), default=0)
        _placement().make(self)
        return end

    def publish(self, outputs: Iterable[CollectedFile]) -> None:
        """Make log and outputs durable and readable on every node. Idempotent.

        Raises OSError, StorageUnavailable.
        """
        _placement().publish(self, outputs)

    def publish_log(self) -> None:
        """Publish the log as it is now as the attempt's whole log."""
        _placement().publish_log(self)

    def leave(self) -> None:
        """Remove what is needed only while the attempt runs."""
        _placement().leave(self)

    def remove_files(self) -> None:
        """Remove the outputs of an attempt that did not end the task, and keep its log."""
        shutil.rmtree(self.files, ignore_errors=True)
        _placement().remove_objects(self.files_key)

    def remove(self) -> None:
        """Remove everything of the attempt."""
        shutil.rmtree(self.directory, ignore_errors=True)
        _placement().remove_objects(self.key)

    def remove_earlier(self) -> None:
        """Remove the files of the task's earlier attempts. Call it on the last attempt."""
        for number in range(1, self.attempt):
            AttemptFiles(self.run, self.index, number).remove()

    @property
    def files_key(self) -> str:
        """The prefix of the objects of the outputs."""
        return f"{self.key}/files"

    def content_key(self, sha256: str) -> str:
        return f"{self.files_key}/{sha256}"


class _InDirectory:
    """Attempts are written below `top`, where every node and nginx read them: little is to be published."""

    def __init__(self, top: Path) -> None:
        self._top = top

    def tail_pieces(self, files: AttemptFiles) -> list[tuple[int, int]]:
        return _tail_pieces(files) if files.tail.is_dir() else []

    def make(self, files: AttemptFiles) -> None:
        check_present(self._top)
        shutil.rmtree(files.directory, ignore_errors=True)
        make_directories(self._top, str(files.run), str(files.index), str(files.attempt))

    def publish(self, files: AttemptFiles, outputs: Iterable[CollectedFile]) -> None:  # noqa: ARG002
        settle(files.directory)

    def publish_log(self, files: AttemptFiles) -> None:
        """It is where it belongs."""

    def leave(self, files: AttemptFiles) -> None:
        """Everything stays."""

    def remove_objects(self, key: str) -> None:
        """There are none."""

    def attempts(self) -> Iterator[tuple[str, ...]]:
        """Run, index and number of each attempt, as the names of directories."""
        return (path.parts[-3:] for path in sorted(self._top.glob("*/*/*")) if path.is_dir())


class _InObjects:
    """Attempts are written on their node, and published to S3."""

    def tail_pieces(self, files: AttemptFiles) -> list[tuple[int, int]]:
        return _tail_pieces(files)

    def make(self, files: AttemptFiles) -> None:
        current().remove(files.key)
        shutil.rmtree(files.directory, ignore_errors=True)
        files.directory.mkdir(parents=True)

    def publish(self, files: AttemptFiles, outputs: Iterable[CollectedFile]) -> None:
        contents = {output.sha256: files.files / output.path for output in outputs}
        with ThreadPoolExecutor(_UPLOADS, "upload") as pool:
            uploads = [pool.submit(_put, files.content_key(name), path) for name, path in contents.items()]
            try:
                for upload in uploads:
                    upload.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self.publish_log(files)

    def publish_log(self, files: AttemptFiles) -> None:
        if files.log.exists():
            _put(files.log_key, files.log)
            for piece in sorted(files.tail.glob("*")):
                _put(files.tail_piece_key(int(piece.name)), piece)

    def leave(self, files: AttemptFiles) -> None:
        shutil.rmtree(files.directory, ignore_errors=True)
        self.remove_objects(files.pieces_key)

    def remove_objects(self, key: str) -> None:
        """Remove them if the storage answers; otherwise `gridapps-server tidy` finds them later."""
        try:
            current().remove(key)
        except StorageUnavailable as error:
            logger.warning("%s is left: %s", key, error)

    def attempts(self) -> Iterator[tuple[str, ...]]:
        return (tuple(entry.key.split("/")[1:4]) for entry in current().entries(f"{_TOP}/"))


def _placement() -> _InDirectory | _InObjects:
    """Where the attempts of this instance are, by its settings."""
    top = current().local(_TOP)
    return _InObjects() if top is None else _InDirectory(top)


def _tail_pieces(files: AttemptFiles) -> list[tuple[int, int]]:
    entries = current().entries(f"{files.tail_key}/")
    return sorted((int(entry.key.rpartition("/")[2]), entry.size) for entry in entries)


def run_key(run: UUID) -> str:
    """The prefix of all files of a run."""
    return f"{_TOP}/{run}"


def attempts() -> Iterator[AttemptFiles]:
    """Every attempt that has files in the storage, run by run. Raises StorageUnavailable."""
    for found, _ in groupby(_placement().attempts()):
        try:
            run, index, attempt = found
            yield AttemptFiles(UUID(run), int(index), int(attempt))
        except ValueError:
            continue  # not written by a worker


def path(output: Output) -> Path | None:
    """The file of an output; None when it is an object."""
    return _attempt(output).files / output.path if is_shared() else None


def private_url(output: Output) -> str | None:
    """Where nginx finds the file of an output, for X-Accel-Redirect; None when it is an object."""
    top, file = current().local(_TOP), path(output)
    return None if top is None or file is None else f"{_PRIVATE_URL}/{quote(str(file.relative_to(top)))}"


def read(output: Output, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The bytes of an output that is an object. Raises StorageUnavailable, Missing."""
    return current().read(_attempt(output).content_key(output.sha256), start=start, stop=stop)


def tidy(*, task: UUID, attempt: int) -> None:
    """Remove the files of an attempt that does not run any more, except those that its task shows."""
    row = Task.objects.filter(pk=task).first()
    if row is None or (row.attempt, row.state) == (attempt, State.RUNNING):
        return
    files = AttemptFiles(row.run_id, row.index, attempt)
    if row.attempt != attempt:
        files.remove()
        return
    if row.state in TERMINAL:
        files.remove_earlier()  # not done if another worker ended the last attempt
    if not Output.objects.filter(task=row).exists():
        files.remove_files()
    files.leave()


def clear_staging() -> None:
    """Remove what a worker that died had not published. Attempts that still run are written again."""
    shutil.rmtree(_staging(), ignore_errors=True)


def _staging() -> Path:
    """The directory in which this node writes attempts before they are published to S3."""
    return Path(settings.DATA) / "attempts" / settings.GRIDAPPS.node


def _attempt(output: Output) -> AttemptFiles:
    return AttemptFiles(output.task.run_id, output.task.index, output.task.attempt)


def _put(key: str, source: Path) -> None:
    with source.open("rb") as file:
        current().put(key, file, size=source.stat().st_size)
