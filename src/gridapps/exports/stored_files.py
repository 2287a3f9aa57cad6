"""Storing the files of exports, and providing them to runs.

In a directory a file is `exports/RANDOM/NUMBER.laz`, a hard link where possible. In S3 it is
`exports/SHA-256`, one object for each content, and a node fetches what it needs into its cache.

A link takes no time and no space, but its content changes when the user writes to the file. So `verified`
checks size and modification time before each run. A file with another time, but the same content (it was
moved, restored or touched), goes on, and its new time is remembered.
"""

import errno
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event, Thread

from django.conf import settings
from django.db import DatabaseError

from gridapps.exports.errors import BadPointCloud
from gridapps.exports.models import ExportFile
from gridapps.storage import free_disk
from gridapps.storage.cache import Altered, Cache, Wanted
from gridapps.storage.choice import current
from gridapps.storage.directory import check_present
from gridapps.storage.interface import Missing

BEAT = 60.0  # seconds between two updates of the time that shows that an import goes on
_PIECE = 8 * 1024**2  # bytes that are copied or hashed between two checks
_FICLONE = 0x40049409  # linux/fs.h: share all blocks of another file
_AGAIN = "An administrator can remove the object and import the file again."


logger = logging.getLogger(__name__)


class ExportFileChanged(Exception):
    """The file is missing or differs from what was imported. The message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file as it was stored."""

    path: str  # below exports/
    size: int
    linked_mtime_ns: int | None


def root() -> Path | None:
    """The directory of all exports; None if they are in S3."""
    return current().local("exports")


def key(sha256: str) -> str:
    """The key of a content in S3."""
    return f"exports/{sha256}"


def provide(exportfile: ExportFile, *, by: str, check: Callable[[], None]) -> Path:
    """The unchanged file on this node, kept for the container named `by` until `release(by)`.

    `check` is called while the file is fetched, and ends the transfer by raising. Raises ExportFileChanged,
    StorageUnavailable, CacheFull, and OSError if the disk is full.
    """
    if root() is not None:
        return verified(exportfile, check=check)
    wanted = Wanted(sha256=exportfile.sha256, size=exportfile.size)
    name = key(exportfile.sha256)
    try:
        return _cache().use(wanted, by=by, read=lambda: current().read(name), check=check)
    except Missing:
        raise ExportFileChanged(
            f"The export file {exportfile.name} is missing in the storage. {_AGAIN}"
        ) from None
    except Altered as how:
        raise ExportFileChanged(
            f"The export file {exportfile.name} was changed in the storage: it {how}. {_AGAIN}"
        ) from None


def release(by: str) -> None:
    """Let the cache remove the file of a container that is gone. Idempotent."""
    if root() is None:
        _cache().release(by)


def release_others(keep: set[str]) -> None:
    """Release the files of all containers of this node except those to `keep`."""
    if root() is None:
        _cache().release_others(keep)


def _cache() -> Cache:
    environment = settings.GRIDAPPS
    return _cache_in(Path(settings.DATA) / "cache", environment.cache, environment.node)


@cache
def _cache_in(directory: Path, limit: int, node: str) -> Cache:
    return Cache(directory, limit=limit, node=node)


def path(exportfile: ExportFile) -> Path:
    """The path of the file, without checks."""
    return _top() / exportfile.path


def _top() -> Path:
    top = root()
    assert top is not None, "exports are in S3"
    return top


def verified(exportfile: ExportFile, *, check: Callable[[], None] = lambda: None) -> Path:
    """The path of the file, checked with one `stat`, and by its SHA-256 if only its time differs.

    `check` is called while it is hashed, and ends that by raising. Raises ExportFileChanged,
    StorageUnavailable.
    """
    check_present(_top())
    place = path(exportfile)
    try:
        status = place.lstat()
    except OSError as error:
        raise ExportFileChanged(
            f"The export file {exportfile.name} cannot be reached: {error.strerror}."
        ) from None
    regular = stat.S_ISREG(status.st_mode) and status.st_size == exportfile.size
    if regular and exportfile.linked_mtime_ns in {None, status.st_mtime_ns}:
        return place
    if not regular or not _has_content(exportfile, place, check):
        raise ExportFileChanged(
            f"The export file {exportfile.name} was changed after it was imported. "
            "Import it again to run on its present content."
        )
    return place


def _has_content(exportfile: ExportFile, place: Path, check: Callable[[], None]) -> bool:
    """Whether the file has the imported content although its time differs. Then remember the time."""
    digest = hashlib.sha256()
    try:
        with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            before = os.fstat(file.fileno())
            while piece := file.read(_PIECE):
                digest.update(piece)
                check()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise ExportFileChanged(
            f"The export file {exportfile.name} cannot be read: {error.strerror}."
        ) from None
    if digest.hexdigest() != exportfile.sha256 or after.st_mtime_ns != before.st_mtime_ns:
        return False
    exportfile.linked_mtime_ns = after.st_mtime_ns
    try:
        exportfile.save(update_fields=["linked_mtime_ns"])
    except DatabaseError as error:  # without it, the next run hashes the file again
        logger.warning("The time of export file %s could not be stored: %s", exportfile.pk, error)
    return True


def store(source: Path, target: Path, *, link: bool) -> Stored:
    """Link (if `link`), reflink or copy the regular file `source` to `target`, which must not exist.

    A link is used only if programs in the sandbox, which run as another user, can read the file. Raises
    BadPointCloud if `source` is not a readable regular file, OSError if the target's disk fails,
    DiskNearlyFull.
    """
    file = open_regular(source)
    try:
        status = os.fstat(file)
        linked = link and bool(status.st_mode & stat.S_IROTH) and _link(file, target)
        if not linked:
            _copy(file, target)
        return Stored(
            path=f"{target.parent.name}/{target.name}",
            size=status.st_size,
            linked_mtime_ns=status.st_mtime_ns if linked else None,
        )
    finally:
        os.close(file)


@contextmanager
def in_progress(directory: Path) -> Iterator[None]:
    """Keep the directory's modification time recent, so that `housekeeping.lost_exports` spares it."""
    done = Event()

    def beat() -> None:
        while not done.wait(BEAT):
            os.utime(directory)

    thread = Thread(target=beat, daemon=True, name="import")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def open_regular(source: Path) -> int:
    """A descriptor of a regular file. Raises BadPointCloud."""
    file = _open(source)
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    if stat.S_ISDIR(mode):
        raise BadPointCloud("This is a directory. Name the files in it.")
    raise BadPointCloud("This is a pipe, socket or device, not a regular file.")


def _open(source: Path) -> int:
    """O_NONBLOCK, because opening a pipe would block."""
    try:
        return os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadPointCloud(
                "This is a symbolic link. Name the file that it points to, or follow links with --follow."
            ) from None
        if error.errno in {errno.ENXIO, errno.ENODEV}:
            raise BadPointCloud("This is a pipe, socket or device, not a regular file.") from None
        raise BadPointCloud(f"The file cannot be opened: {error.strerror}.") from None


def _link(file: int, target: Path) -> bool:
    """Link the open file, not what its name may refer to by now. Returns False if that is not possible."""
    try:
        # Python follows the link in /proc only if a directory is given; an absolute path ignores it.
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
            while piece := source.read(_PIECE):
                free_disk.require(target.parent, floor=settings.GRIDAPPS.min_free_disk, more=len(piece))
                copy.write(piece)
        copy.flush()
        os.fsync(copy.fileno())
        os.fchmod(copy.fileno(), 0o444)
