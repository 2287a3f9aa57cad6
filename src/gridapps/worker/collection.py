"""Taking over what a program left in /grid. Everything there is hostile: names, links, sizes, depth.

Only regular files under plain names are copied, found by directory descriptors without following any link,
and hashed on the way. Whatever is left out is named, with the reason.
"""

import errno
import hashlib
import os
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from mimetypes import MimeTypes
from pathlib import Path

from gridapps.runs.store import CollectedFile

_CHUNK = 1024 * 1024
MAX_DEPTH = 32  # directories below each other
_LONGEST_PATH = 1024  # characters, as the database has it
STDOUT = "stdout.txt"  # kept in part when it does not fit
# Windows opens the device whatever the ending and the directory.
_DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"}) | {
    f"{kind}{number}" for kind in ("COM", "LPT") for number in "0123456789\u00b9\u00b2\u00b3"
}
_MOST_LEFT_OUT = 100  # that are named one by one
_TURNS_TEXT = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class LeftOut:
    """Something that was not taken over. `path` is for people: what cannot be shown in it is escaped."""

    path: str
    why: str


@dataclass(frozen=True)
class Collected:
    """Both in the order of the walk: files of a directory first, by name."""

    outputs: list[CollectedFile] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def collect(
    source: int, target: Path, *, max_files: int = 10_000, max_bytes: int, max_depth: int = MAX_DEPTH
) -> Collected:
    """Copy the outputs below the directory that is open as `source` to `target`, which is replaced.
    `source` is closed. `max_bytes` counts logical sizes.

    No program may run in `source` any more; should one, the worst is a file left out. Raises OSError when
    `target` cannot be written.
    """
    try:
        if target.exists():
            shutil.rmtree(target)
        _make_directories(target.parent, [target.name])
        collection = _Collection(target, max_files=max_files, max_bytes=max_bytes, max_depth=max_depth)
        with ThreadPoolExecutor(1, thread_name_prefix="sha256") as hasher:
            collection.walk(source, hasher)
    finally:
        os.close(source)  # of a file system that is to be unmounted
    return collection.result()


class _Refused(Exception):
    """This entry is left out; the message says why."""


@dataclass
class _Directory:
    """A directory on the way down: its descriptor, its place, and the subdirectories still to be visited."""

    descriptor: int
    parts: tuple[str, ...]
    waiting: Iterator[bytes]


class _Collection:
    def __init__(self, target: Path, *, max_files: int, max_bytes: int, max_depth: int) -> None:
        self._target = target
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._outputs: list[CollectedFile] = []
        self._left_out: list[LeftOut] = []
        self._unnamed = 0
        self._bytes = 0

    def result(self) -> Collected:
        left_out = list(self._left_out)
        if self._unnamed:
            left_out.append(LeftOut("", f"and {self._unnamed} more were left out."))
        return Collected(self._outputs, left_out)

    def walk(self, source: int, hasher: ThreadPoolExecutor) -> None:
        """Depth first, with one open descriptor for each level and no recursion."""
        root = os.dup(source)
        device = os.fstat(root).st_dev
        stack = [self._enter(root, (), hasher)]
        try:
            while stack:
                here = stack[-1]
                name = next(here.waiting, None)
                if name is None:
                    os.close(stack.pop().descriptor)
                    continue
                try:
                    below = self._open_directory(here, name, device)
                except _Refused as why:
                    self._leave_out(here.parts, name, str(why))
                    continue
                stack.append(self._enter(below, (*here.parts, os.fsdecode(name)), hasher))
        finally:
            for directory in stack:
                os.close(directory.descriptor)

    def _enter(self, descriptor: int, parts: tuple[str, ...], hasher: ThreadPoolExecutor) -> _Directory:
        """Take the files of a directory; what is left of it are its subdirectories."""
        try:
            subdirectories = self._take_files(descriptor, parts, hasher)
        except BaseException:
            os.close(descriptor)  # of a file system that is to be unmounted
            raise
        return _Directory(descriptor, parts, iter(subdirectories))

    def _take_files(self, descriptor: int, parts: tuple[str, ...], hasher: ThreadPoolExecutor) -> list[bytes]:
        subdirectories = []
        for name in sorted(os.fsencode(entry) for entry in os.listdir(descriptor)):
            try:
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    subdirectories.append(name)
                else:
                    self._take(descriptor, parts, name, found, hasher)
            except _Refused as why:
                self._leave_out(parts, name, str(why))
            except FileNotFoundError:
                self._leave_out(parts, name, "vanished while it was collected.")
        return subdirectories

    def _open_directory(self, here: _Directory, name: bytes, device: int) -> int:
        _plain_name(name)
        if len(here.parts) >= self._max_depth:
            raise _Refused(f"lies deeper than {self._max_depth} directories.")
        try:
            descriptor = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=here.descriptor)
        except OSError as error:
            raise _Refused(f"cannot be opened: {error.strerror}.") from None
        if os.fstat(descriptor).st_dev != device:
            os.close(descriptor)
            raise _Refused("is another file system.")
        return descriptor

    def _take(
        self,
        directory: int,
        parts: tuple[str, ...],
        name: bytes,
        found: os.stat_result,
        hasher: ThreadPoolExecutor,
    ) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise _Refused(f"is a {_kind(found.st_mode)}, not a regular file.")
        path = "/".join((*parts, _plain_name(name)))
        if len(path) > _LONGEST_PATH:
            raise _Refused(f"has a path of more than {_LONGEST_PATH} characters.")
        if len(self._outputs) >= self._max_files:
            raise _Refused(f"is beyond the limit of {self._max_files} files.")
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=directory)
        except OSError as error:
            raise _Refused(f"cannot be opened: {error.strerror}.") from None
        try:
            self._copy(descriptor, path, found, hasher)
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int, path: str, found: os.stat_result, hasher: ThreadPoolExecutor) -> None:
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode) or (opened.st_dev, opened.st_ino) != (
            found.st_dev,
            found.st_ino,
        ):
            raise _Refused("was replaced while it was collected.")
        size = min(opened.st_size, self._max_bytes - self._bytes)
        if size < opened.st_size and (path != STDOUT or size == 0):
            raise _Refused(f"would make the outputs larger than {self._max_bytes} bytes.")
        target = self._target / path
        _make_directories(self._target, path.split("/")[:-1])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        copy = os.open(target, flags, 0o640)
        try:
            os.fchmod(copy, 0o640)
            digest = _transfer(descriptor, copy, size, hasher)
        except _Refused:
            target.unlink()
            raise
        finally:
            os.close(copy)
        self._bytes += size
        self._outputs.append(CollectedFile(path, size, digest, media_type(path)))
        if size < opened.st_size:
            why = f"was cut after {size} bytes, where the outputs reached {self._max_bytes} bytes."
            self._leave_out((), os.fsencode(path), why)

    def _leave_out(self, parts: tuple[str, ...], name: bytes, why: str) -> None:
        if len(self._left_out) < _MOST_LEFT_OUT:
            self._left_out.append(LeftOut(_escaped(b"/".join([*map(os.fsencode, parts), name])), why))
        else:
            self._unnamed += 1


def _transfer(source: int, target: int, size: int, hasher: ThreadPoolExecutor) -> str:
    """Copy `size` bytes, holes as holes, hashing in the other thread; the SHA-256 of all of them."""
    digest = hashlib.sha256()
    pending: Future[None] | None = None
    zeros = memoryview(bytes(_CHUNK))
    offset = 0
    for start, end in _data_ranges(source, size):
        while offset < start:
            step = min(_CHUNK, start - offset)
            pending = _hash_next(hasher, pending, digest, zeros[:step])
            offset += step
        while offset < end:
            chunk = os.pread(source, min(_CHUNK, end - offset), offset)
            if not chunk:
                raise _Refused("was cut while it was collected.")
            pending = _hash_next(hasher, pending, digest, chunk)
            _write_at(target, chunk, offset)
            offset += len(chunk)
    if pending is not None:
        pending.result()
    os.ftruncate(target, size)
    return digest.hexdigest()


def _hash_next(
    hasher: ThreadPoolExecutor,
    pending: Future[None] | None,
    digest: "hashlib._Hash",
    chunk: bytes | memoryview,
) -> Future[None]:
    """Hash a chunk while the next is copied: at most one waits."""
    if pending is not None:
        pending.result()
    return hasher.submit(digest.update, chunk)


def _data_ranges(source: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, ending with an empty range at its end, so that a last hole is seen too."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole is left
                raise
            break
        end = min(size, os.lseek(source, start, os.SEEK_HOLE))
        if start >= size:
            break
        yield start, end
        offset = end
    yield size, size


def _write_at(target: int, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(target, view, offset)
        view, offset = view[written:], offset + written


def _make_directories(top: Path, names: list[str]) -> None:
    here = top
    for name in names:
        here /= name
        if not here.exists():
            here.mkdir()
            # The set-group-ID bit that it inherits lets nginx's group read what is made below.
            here.chmod(0o750 | (here.stat().st_mode & stat.S_ISGID))


def _plain_name(name: bytes) -> str:
    """The name as text, if every system and page can take it."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise _Refused("has a name that is not UTF-8.") from None
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise _Refused("has a control character in its name.")
    if _TURNS_TEXT & set(text):
        raise _Refused("has a character in its name that turns the direction of text.")
    if "\\" in text:
        raise _Refused("has a backslash in its name.")
    if text.endswith((".", " ")):
        raise _Refused("has a name that ends in a dot or space, which Windows cannot store.")
    if text.partition(".")[0].rstrip(" ").upper() in _DEVICES:
        raise _Refused("has the name of a device of Windows.")
    return text


def _kind(mode: int) -> str:
    for test, kind in (
        (stat.S_ISLNK, "symbolic link"),
        (stat.S_ISFIFO, "named pipe"),
        (stat.S_ISSOCK, "socket"),
    ):
        if test(mode):
            return kind
    return "device"


def _escaped(path: bytes) -> str:
    """A path for people, of at most 300 characters."""
    text = path.decode("utf-8", errors="backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= 300 else shown[:297] + "..."


def media_type(path: str) -> str:
    """By the ending: the formats of point clouds and maps, and what everybody knows."""
    name = path.lower()
    for ending, known in _MEDIA_TYPES.items():
        if name.endswith(ending):
            return known
    guessed, encoding = _TYPES.guess_type(name, strict=True)
    return guessed if guessed and not encoding else "application/octet-stream"


_TYPES = MimeTypes()
_MEDIA_TYPES = {
    ".copc.laz": "application/vnd.laszip+copc",
    ".laz": "application/vnd.laszip",
    ".las": "application/vnd.las",
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain",
    ".parquet": "application/vnd.apache.parquet",
}
