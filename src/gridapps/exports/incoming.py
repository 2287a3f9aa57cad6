"""The files of uploads while they arrive: `incoming/UPLOAD.INDEX` in the data directory.

The application appends to them; the importer reads and removes them. The size of a file is how much has
arrived, so nothing has to be restored after a crash.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from django.conf import settings

from gridapps.exports.errors import NoDiskSpace, UploadConflict
from gridapps.exports.models import ExportUpload, UploadFile

_STRAY = 3600.0  # seconds after which a file without a row is removed
_NO_SPACE = "The instance's disk is full. Try again later, or ask an administrator."


def directory() -> Path:
    """Where they are."""
    return Path(settings.DATA) / "incoming"


def path_of(file: UploadFile) -> Path:
    """The path of a file, whether or not anything has arrived."""
    return directory() / f"{file.upload_id.hex}.{file.index}"


def arrived(file: UploadFile) -> int:
    """How many bytes have arrived."""
    try:
        return path_of(file).lstat().st_size
    except FileNotFoundError:
        return 0


def require_space(size: int) -> None:
    """Raise NoDiskSpace unless the disk has `size` bytes beyond what has to stay free."""
    try:
        free = shutil.disk_usage(directory()).free
    except OSError:
        raise NoDiskSpace("The instance cannot receive uploads now. Ask an administrator.") from None
    if free < size + settings.GRIDAPPS.min_free_disk:
        raise NoDiskSpace("The instance's disk has no space for this upload. Ask an administrator.")


@contextmanager
def writing(file: UploadFile) -> Iterator[int]:
    """A descriptor of the file for the only writer. Raises UploadConflict while there is another."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path_of(file), flags, 0o600)
    except OSError:
        raise NoDiskSpace(_NO_SPACE) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UploadConflict("Another request is sending this file; wait for its end.") from None
        os.fchmod(descriptor, 0o640)  # for the importer
        yield descriptor
    finally:
        os.close(descriptor)


def append(descriptor: int, content: bytes, *, end: bool) -> None:
    """Append everything or nothing; with `end`, it then survives a loss of power. Raises NoDiskSpace."""
    before = os.fstat(descriptor).st_size
    view, offset = memoryview(content), before
    try:
        while view:
            count = os.pwrite(descriptor, view, offset)
            view, offset = view[count:], offset + count
        if end:
            os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, before)
        raise NoDiskSpace(_NO_SPACE) from None


def remove(upload: ExportUpload) -> None:
    """Remove what has arrived of an upload. Idempotent."""
    for path in directory().glob(f"{upload.pk.hex}.*"):
        discard(path)


def discard(path: Path) -> None:
    """Remove a file. A directory stays: only a compromised application makes one, and it must not hold up
    the importer.
    """
    with suppress(FileNotFoundError, IsADirectoryError):
        path.unlink()


def strays() -> list[Path]:
    """Files of uploads that have no row or have ended. A writer may have made one just after the end."""
    old = time.time() - _STRAY
    found = []
    for path in directory().iterdir():
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime < old:
                found.append(path)
    keys = {path: _key(path) for path in found}
    open_ = set(
        ExportUpload.objects.filter(pk__in=set(filter(None, keys.values())), ended_at=None).values_list(
            "pk", flat=True
        )
    )
    return [path for path in found if keys[path] not in open_]


def _key(path: Path) -> UUID | None:
    try:
        return UUID(path.name.partition(".")[0])
    except ValueError:
        return None
