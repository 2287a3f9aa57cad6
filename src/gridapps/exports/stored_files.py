"""Where the files of exports lie.

In a directory: `exports/<random>/<number>.laz`, hard links where possible. In S3: `exports/<SHA-256>`, each
content once; a node fetches what it needs into its cache.

A link costs no room and no time, but its content changes when the user writes into the file. So `verified`
checks size and modification time each time before a run reads it.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event, Thread

from django.conf import settings

from gridapps.exports.headers import BadPointCloud
from gridapps.exports.models import ExportFile
from gridapps.storage.cache import Altered, Cache, Wanted
from gridapps.storage.choice import current
from gridapps.storage.directory import check_present
from gridapps.storage.interface import Missing

BEAT = 60.0  # seconds between two signs of life of an import
_FICLONE = 0x40049409  # linux/fs.h: share all blocks of another file


_AGAIN = "An administrator can remove the object and import the file again."


class ExportFileChanged(Exception):
    """The file is gone, or is no longer what was imported. The message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One file as it was put into the storage."""

    path: str  # below exports/
    size: int
    linked_mtime_ns: int | None


def root() -> Path | None:
    """The directory of all exports; None when they lie in S3."""
    return current().local("exports")


def key(sha256: str) -> str:
    """Where the storage keeps a content, if it is S3."""
    return f"exports/{sha256}"


def provide(exportfile: ExportFile, *, by: str, check: Callable[[], None]) -> Path:
    """The file on this node, unchanged, for a container named `by`, until `release(by)`.

    `check` is called while it is fetched, and ends that by raising. Raises ExportFileChanged,
    StorageUnavailable, CacheFull, OSError of a full disk.
    """
    if root() is not None:
        return verified(exportfile)
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
    """The container is gone: its file may leave this node. Idempotent."""
    if root() is None:
        _cache().release(by)


def release_others(keep: set[str]) -> None:
    """Release the files of all containers of this node but those to `keep`."""
    if root() is None:
        _cache().release_others(keep)


def _cache() -> Cache:
    environment = settings.GRIDAPPS
    return _cache_in(Path(settings.DATA) / "cache", environment.cache, environment.node)


@cache
def _cache_in(directory: Path, limit: int, node: str) -> Cache:
    return Cache(directory, limit=limit, node=node)


def path(exportfile: ExportFile) -> Path:
    """The file on disk, whether it is still what was imported or not."""
    return _top() / exportfile.path


def _top() -> Path:
    top = root()
    assert top is not None, "what lies in S3 is no file"
    return top


def verified(exportfile: ExportFile) -> Path:
    """The file on disk, checked at the price of one `stat`. Raises ExportFileChanged, StorageUnavailable."""
    check_present(_top())
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
    file = open_regular(source)
    try:
        status = os.fstat(file)
        linked = bool(status.st_mode & stat.S_IROTH) and _link(file, target)
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
    """Tell `tidying` that the import into this directory goes on, by its time of change."""
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
    """A descriptor of the file, if it is a regular one. Raises BadPointCloud."""
    file = _open(source)
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    if stat.S_ISDIR(mode):
        raise BadPointCloud("This is a directory. Name the files in it.")
    raise BadPointCloud("This is no regular file but a pipe, socket or device.")


def _open(source: Path) -> int:
    """Without O_NONBLOCK a pipe would stop the import for ever."""
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
