"""Copying what a program left in /grid. All of it is hostile: names, links, sizes, depth.

Only regular files are copied, and symbolic links to regular files in /grid as copies of their targets.
They are found through directory descriptors and hashed while they are copied. What is left out is listed
with the reason.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gridapps.runs.store import CollectedFile
from gridapps.storage.directory import make_directories
from gridapps.worker import output_links, output_names
from gridapps.worker.hashed_copy import HashingCopier, Truncated
from gridapps.worker.output_links import Unresolved
from gridapps.worker.output_names import BadName

MAX_DEPTH = 128  # directories below each other
STDOUT = "stdout.txt"  # the one file that is kept in part when it does not fit
MOST_NAMED = 100  # omissions that are listed one by one
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Omission:
    """Something that was left out. `path` is for people: unprintable characters in it are escaped. `lost`:
    its content is in no output. A socket has no content, and a link to a directory repeats that of others."""

    path: str
    why: str
    lost: bool = True


@dataclass(frozen=True)
class Collected:
    """The outputs are in the order of the walk: the files of a directory by name, then its subdirectories,
    and finally the links.
    """

    outputs: list[CollectedFile] = field(default_factory=list)
    left_out: list[Omission] = field(
        default_factory=list
    )  # the first, those whose content is lost before others
    left_out_count: int = 0
    lost_count: int = 0


def collect(
    source: int, target: Path, *, max_files: int, max_bytes: int, max_depth: int = MAX_DEPTH
) -> Collected:
    """Copy the outputs below the open directory `source` to `target`, which is replaced. Closes `source`.

    `max_bytes` counts logical sizes. No program should run in `source` any more; if one does, files may be
    left out. Raises OSError when `target` cannot be written.
    """
    try:
        if target.exists():
            shutil.rmtree(target)
        make_directories(target.parent, target.name)
        with closing(HashingCopier()) as copier:
            collection = _Collection(
                source, target, copier, max_files=max_files, max_bytes=max_bytes, max_depth=max_depth
            )
            collection.add_directory(source, (), os.fstat(source).st_dev)
            collection.add_links()
    finally:
        os.close(source)  # its file system is about to be unmounted
    return collection.result()


class _LeaveOut(Exception):
    """The entry is left out. The message says why."""

    def __init__(self, why: str, *, lost: bool = True) -> None:
        super().__init__(why)
        self.lost = lost


class _Collection:
    def __init__(
        self, top: int, target: Path, copier: HashingCopier, *, max_files: int, max_bytes: int, max_depth: int
    ) -> None:
        self._top = top
        self._target = target
        self._copier = copier
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._outputs: list[CollectedFile] = []
        self._links: list[tuple[tuple[str, ...], bytes]] = []
        self._taken: set[int] = set()  # inodes
        self._omissions = _Omissions()
        self._bytes = 0
        self._made = ""  # the directory in `target` that was made last

    def result(self) -> Collected:
        found = self._omissions
        return Collected(
            self._outputs, [*found.lost, *found.harmless][:MOST_NAMED], found.count, found.lost_count
        )

    def add_directory(self, directory: int, parts: tuple[str, ...], device: int) -> None:
        """Take the files of an open directory of the file system `device`, and of those below it."""
        for name in self._add_files(directory, parts):
            with self._leaving_out(parts, name):
                below = self._open_directory(directory, parts, name, device)
                try:
                    self.add_directory(below, (*parts, os.fsdecode(name)), device)
                finally:
                    os.close(below)

    def add_links(self) -> None:
        """Take the links that were found. Call it after the files, which take precedence."""
        for parts, name in self._links:
            with self._leaving_out(parts, name):
                path = self._checked_path(parts, name)
                descriptor = output_links.open_target(self._top, b"/".join([*map(os.fsencode, parts), name]))
                try:
                    found = os.fstat(descriptor)
                    self._copy(descriptor, path, found.st_size, lost=found.st_ino not in self._taken)
                finally:
                    os.close(descriptor)

    @contextmanager
    def _leaving_out(self, parts: tuple[str, ...], name: bytes) -> Iterator[None]:
        """Note an entry that is left out, and why."""
        try:
            yield
        except (_LeaveOut, Unresolved) as why:
            self._omissions.add(parts, name, str(why), lost=why.lost)
        except BadName as why:
            self._omissions.add(parts, name, str(why))
        except FileNotFoundError as error:
            if error.filename != name:
                raise
            self._omissions.add(parts, name, "vanished while it was collected.")

    def _add_files(self, directory: int, parts: tuple[str, ...]) -> list[bytes]:
        """Take the files of a directory; return the names of its subdirectories."""
        subdirectories = []
        for name in sorted(os.fsencode(entry) for entry in os.listdir(directory)):
            with self._leaving_out(parts, name):
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    subdirectories.append(name)
                elif stat.S_ISLNK(found.st_mode):
                    self._links.append((parts, name))
                else:
                    self._add_file(directory, parts, name, found)
        return subdirectories

    def _open_directory(self, directory: int, parts: tuple[str, ...], name: bytes, device: int) -> int:
        output_names.decode(name)
        if len(parts) >= self._max_depth:
            raise _LeaveOut(f"lies deeper than {self._max_depth} directories.")
        descriptor = _open(name, _FLAGS | os.O_DIRECTORY, directory)
        if os.fstat(descriptor).st_dev != device:
            os.close(descriptor)
            raise _LeaveOut("is another file system.")
        return descriptor

    def _add_file(self, directory: int, parts: tuple[str, ...], name: bytes, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise _LeaveOut(f"is a {_kind(found.st_mode)}, not a regular file.", lost=False)
        path = self._checked_path(parts, name)
        descriptor = _open(name, _FLAGS, directory)
        try:
            opened = os.fstat(descriptor)
            if not stat.S_ISREG(opened.st_mode) or not os.path.samestat(opened, found):
                raise _LeaveOut("was replaced while it was collected.")
            self._copy(descriptor, path, opened.st_size)
        finally:
            os.close(descriptor)
        self._taken.add(found.st_ino)

    def _checked_path(self, parts: tuple[str, ...], name: bytes) -> str:
        """The path of an output. Raises _LeaveOut, BadName."""
        path = output_names.path_of(parts, name)
        if len(self._outputs) >= self._max_files:
            raise _LeaveOut(f"is beyond the limit of {self._max_files} files.")
        return path

    def _copy(self, source: int, path: str, size: int, *, lost: bool = True) -> None:
        kept = min(size, self._max_bytes - self._bytes)
        if kept < size and (path != STDOUT or kept == 0):
            raise _LeaveOut(
                f"would make the outputs larger than {self._max_bytes} bytes (holes in files count).",
                lost=lost,
            )
        target = self._target / path
        self._make_parent(path)
        copy = os.open(target, _NEW, 0o640)
        try:
            os.fchmod(copy, 0o640)
            digest = self._copier.copy(source, copy, kept)
        except Truncated:
            target.unlink()
            raise _LeaveOut("was cut while it was collected.") from None
        finally:
            os.close(copy)
        self._bytes += kept
        self._outputs.append(CollectedFile(path, kept, digest, output_names.media_type(path)))
        if kept < size:
            why = f"was cut after {kept} bytes, where the outputs reached {self._max_bytes} bytes."
            self._omissions.add((), os.fsencode(path), why)

    def _make_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent != self._made:
            make_directories(self._target, *parent.split("/"))
            self._made = parent


class _Omissions:
    """What was left out. A bounded number is named."""

    def __init__(self) -> None:
        self.lost: list[Omission] = []
        self.harmless: list[Omission] = []
        self.count = self.lost_count = 0

    def add(self, parts: tuple[str, ...], name: bytes, why: str, *, lost: bool = True) -> None:
        self.count += 1
        self.lost_count += lost
        named = self.lost if lost else self.harmless
        if len(named) < MOST_NAMED:
            path = b"/".join([*map(os.fsencode, parts), name])
            named.append(Omission(output_names.escape(path), why, lost))


def _open(name: bytes, flags: int, directory: int) -> int:
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        raise _LeaveOut(f"cannot be opened: {error.strerror}.") from None


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")
