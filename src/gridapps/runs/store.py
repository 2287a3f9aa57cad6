"""Where logs and outputs lie: `outputs/<run>/<task index>/<attempt>/` of the storage, one for each attempt.

In a directory everything is written where it stays: `log` and `files/PATH`. For S3 an attempt is written on
its node first, and published when it ends: the object `log`, and `files/SHA-256` for each content; while the
program runs, pieces of its log go to `log.d/`. Either way the winning `finish` makes it visible.

Of a task's attempts the last one is shown; what the earlier ones left is removed when it is known that they
are not the last.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.conf import settings

from gridapps.exports.storage import current
from gridapps.runs.models import Output, Task
from gridapps.runs.states import TERMINAL, State
from gridapps.storage.directory import check_present, make_directories, settle
from gridapps.storage.protocol import StorageUnavailable

logger = logging.getLogger(__name__)

_UPLOADS = 8  # files of one attempt at once


def is_shared() -> bool:
    """Whether attempts are written where every node and nginx see them."""
    return current().local("outputs") is not None


@dataclass(frozen=True)
class CollectedFile:
    """A file that was taken over. `path` is relative, with / between names; `size` in bytes."""

    path: str
    size: int
    sha256: str
    media_type: str


@dataclass(frozen=True)
class Place:
    """The place of one attempt."""

    run: UUID
    index: int
    attempt: int

    @property
    def key(self) -> str:
        return f"outputs/{self.run}/{self.index}/{self.attempt}"

    @property
    def directory(self) -> Path:
        """Where its node writes."""
        return current().local(self.key) or _workshop() / self.key

    @property
    def log(self) -> Path:
        """Lines of `TIMESTAMP TEXT`, progress taken out."""
        return self.directory / "log"

    @property
    def files(self) -> Path:
        return self.directory / "files"

    def make(self) -> None:
        """Make the directory, without leftovers of a worker that died in it. Raises StorageUnavailable."""
        if (shared := current().local("outputs")) is not None:
            check_present(shared)
        else:
            current().remove(self.key)
        shutil.rmtree(self.directory, ignore_errors=True)
        if shared is None:
            self.directory.mkdir(parents=True)
        else:
            make_directories(shared, str(self.run), str(self.index), str(self.attempt))

    def publish(self, outputs: Iterable[CollectedFile]) -> None:
        """Return when log and outputs are safe, and can be read on every node. Idempotent.

        A row that survives a loss of power finds them. Raises OSError, StorageUnavailable.
        """
        if is_shared():
            settle(self.directory)
            return
        contents = {output.sha256: self.files / output.path for output in outputs}
        with ThreadPoolExecutor(_UPLOADS, "upload") as pool:
            uploads = [pool.submit(_put, f"{self.key}/files/{name}", path) for name, path in contents.items()]
            try:
                for upload in uploads:
                    upload.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self.publish_log()

    def publish_log(self) -> None:
        """Make the log as it is the attempt's whole log, for every node."""
        if not is_shared() and self.log.exists():
            _put(f"{self.key}/log", self.log)

    def leave(self) -> None:
        """Remove what only its node had use for: the attempt has ended."""
        if not is_shared():
            shutil.rmtree(self.directory, ignore_errors=True)
            _remove(f"{self.key}/log.d")

    def remove_files(self) -> None:
        """Remove the outputs of an attempt that did not end the task; its log stays to be read."""
        shutil.rmtree(self.files, ignore_errors=True)
        if not is_shared():
            _remove(f"{self.key}/files")

    def remove(self) -> None:
        """Remove everything of the attempt."""
        shutil.rmtree(self.directory, ignore_errors=True)
        if not is_shared():
            _remove(self.key)

    def remove_earlier(self) -> None:
        """Remove what the task's earlier attempts left: this one is the last."""
        for number in range(1, self.attempt):
            Place(self.run, self.index, number).remove()


def path(output: Output) -> Path | None:
    """The file of an output, below the directory that nginx sends from; None when it is an object."""
    place = _place(output)
    return place.files / output.path if is_shared() else None


def read(output: Output, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The bytes of an output that is an object. Raises StorageUnavailable, Missing."""
    return current().read(f"{_place(output).key}/files/{output.sha256}", start=start, stop=stop)


def tidy(*, task: UUID, attempt: int) -> None:
    """Remove what an attempt left that does not run any more, but not what its task shows."""
    row = Task.objects.filter(pk=task).first()
    if row is None or (row.attempt, row.state) == (attempt, State.RUNNING):
        return
    place = Place(row.run_id, row.index, attempt)
    if row.attempt != attempt:
        place.remove()
        return
    if row.state in TERMINAL:
        place.remove_earlier()  # a last attempt that others ended had nobody else to do it
    if not Output.objects.filter(task=row).exists():
        place.remove_files()
    place.leave()


def clear_workshop() -> None:
    """Remove what a worker that died had not published; what it left running is written anew."""
    shutil.rmtree(_workshop(), ignore_errors=True)


def _workshop() -> Path:
    """Where this node writes what will be objects."""
    return Path(settings.DATA) / "attempts" / settings.GRIDAPPS.node


def _place(output: Output) -> Place:
    return Place(output.task.run_id, output.task.index, output.task.attempt)


def _put(key: str, source: Path) -> None:
    with source.open("rb") as file:
        current().put(key, file, size=source.stat().st_size)


def _remove(key: str) -> None:
    """What cannot be removed now is found by `gridapps-server tidy`."""
    try:
        current().remove(key)
    except StorageUnavailable as error:
        logger.warning("%s is left: %s", key, error)
