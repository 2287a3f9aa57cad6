"""Where the files of exports lie: `<storage>/exports/<random>/<number>.laz`, hard links where possible.

A link costs no room and no time, but its content changes when the user writes into the file. So `verified`
checks size and modification time each time before a run reads it.
"""

import errno
import fcntl
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from gridapps.exports.headers import BadPointCloud
from gridapps.exports.models import ExportFile
from gridapps.storage.directory import check_present

_FICLONE = 0x40049409  # linux/fs.h: share all blocks of another file


class ExportFileChanged(Exception):
    """The file is gone, or is no longer what was imported. The message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One file as it was put into the storage."""

    path: Path
    size: int
    linked_mtime_ns: int | None


def root() -> Path:
    """The directory of all exports."""
    return Path(settings.STORAGE or settings.DATA) / "exports"


def path(exportfile: ExportFile) -> Path:
    """The file on disk, whether it is still what was imported or not."""
    return root() / exportfile.path


def verified(exportfile: ExportFile) -> Path:
    """The file on disk, checked at the price of one `stat`. Raises ExportFileChanged, StorageUnavailable."""
    check_present(root())
    place = path(exportfile)
    try:
        status = place.lstat()
    except OSError as error:
        raise ExportFileChanged(
            f"The export file {exportfile.name} cannot be reached: {error.strerror}."
        ) from None
    linked = exportfile.linked_mtime_ns
    if (
        not stat.S_ISREG(status.st_mode)
        or status.st_size != exportfile.size
        or (linked is not None and status.st_mtime_ns != linked)
    ):
        raise ExportFileChanged(
            f"The export file {exportfile.name} was changed after it was imported. "
            "Import it again to run on what it is now."
        )
    return place


def store(source: Path, target: Path) -> Stored:
    """Put the regular file `source` at `target` (which must not exist): link, else reflink, else copy.

    A link is taken only where programs in the sandbox, which run as another user, can read the file. Raises
    BadPointCloud when `source` is no readable regular file, OSError when the target's disk fails.
    """
    file = _open(source)
    try:
        status = os.fstat(file)
        if stat.S_ISDIR(status.st_mode):
            raise BadPointCloud("This is a directory. Name the files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise BadPointCloud("This is no regular file but a pipe, socket or device.")
        linked = bool(status.st_mode & stat.S_IROTH) and _link(file, target)
        if not linked:
            _copy(file, target)
        return Stored(
            path=target, size=status.st_size, linked_mtime_ns=status.st_mtime_ns if linked else None
        )
    finally:
        os.close(file)


def _open(source: Path) -> int:
    """A descriptor of the file; without O_NONBLOCK a pipe would stop the import for ever."""
    try:
        return os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadPointCloud("This is a symbolic link. Name the file that it points to.") from None
        if error.errno in {errno.ENXIO, errno.ENODEV}:
            raise BadPointCloud("This is no regular file but a pipe, socket or device.") from None
        raise BadPointCloud(f"The file cannot be opened: {error.strerror}.") from None


def _link(file: int, target: Path) -> bool:
    """Link the very file that is open, not what its name may mean by now. False where that is not allowed."""
    try:
        # Python follows the link in /proc only with a directory given, which an absolute path ignores.
        os.link(f"/proc/self/fd/{file}", target, src_dir_fd=file, follow_symlinks=True)
    except OSError as error:
        if error.errno in {
            errno.EXDEV,
            errno.EPERM,
            errno.EMLINK,
            errno.EOPNOTSUPP,
            errno.ENOENT,
            errno.EACCES,
        }:
            return False
        raise
    return True


def _copy(file: int, target: Path) -> None:
    with os.fdopen(os.dup(file), "rb") as source, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
        except OSError:
            shutil.copyfileobj(source, copy, 1024**2)
        copy.flush()
        os.fsync(copy.fileno())
        os.fchmod(copy.fileno(), 0o444)
