"""Copying what a program left in /grid. All of it is hostile: names, links, sizes, depth.

Only regular files with plain names are copied. They are found through directory descriptors, without
following links, and hashed while they are copied. What is left out is listed with the reason.
"""

import os
import shutil
import stat
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from gridapps.runs.store import CollectedFile
from gridapps.storage.directory import make_directories
from gridapps.worker import output_names
from gridapps.worker.hashed_copy import HashingCopier, Truncated
from gridapps.worker.output_names import BadName

MAX_DEPTH = 32  # directories below each other
STDOUT = "stdout.txt"  # the one file that is kept in part when it does not fit
_MOST_NAMED = 100  # omissions that are listed one by one
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Omission:
    """Something that was left out. `path` is for people: unprintable characters in it are escaped."""

    path: str
    why: str


@dataclass(frozen=True)
class Collected:
    """Both lists are in the order of the walk: the files of a directory by name, then its subdirectories."""

    outputs: list[CollectedFile] = field(default_factory=list)
    left_out: list[Omission] = field(default_factory=list)


def collect(
    source: int, target: Path, *, max_files: int = 10_000, max_bytes: int, max_depth: int = MAX_DEPTH
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
                target, copier, max_files=max_files, max_bytes=max_bytes, max_depth=max_depth
            )
            collection.add_directory(source, (), os.fstat(source).st_dev)
    finally:
        os.close(source)  # its file system is about to be unmounted
    return collection.result()


class _LeaveOut(Exception):
    """This entry is left out. The message says why."""


class _Collection:
    def __init__(
        self, target: Path, copier: HashingCopier, *, max_files: int, max_bytes: int, max_depth: int
    ) -> None:
        self._target = target
        self._copier = copier
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._outputs: list[CollectedFile] = []
        self._left_out: list[Omission] = []
        self._unnamed = 0
        self._bytes = 0

    def result(self) -> Collected:
        left_out = list(self._left_out)
        if self._unnamed:
            left_out.append(Omission("", f"and {self._unnamed} more were left out."))
        return Collected(self._outputs, left_out)

    def add_directory(self, directory: int, parts: tuple[str, ...], device: int) -> None:
        """Take the files of an open directory of the file system `device`, and of those below it."""
        for name in self._add_files(directory, parts):
            try:
                below = self._open_directory(directory, parts, name, device)
            except (_LeaveOut, BadName) as why:
                self._leave_out(parts, name, str(why))
                continue
            try:
                self.add_directory(below, (*parts, os.fsdecode(name)), device)
            finally:
                os.close(below)

    def _add_files(self, directory: int, parts: tuple[str, ...]) -> list[bytes]:
        """Take the files of a directory; return the names of its subdirectories."""
        subdirectories = []
        for name in sorted(os.fsencode(entry) for entry in os.listdir(directory)):
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    subdirectories.append(name)
                else:
                    self._add_file(directory, parts, name, found)
            except (_LeaveOut, BadName) as why:
                self._leave_out(parts, name, str(why))
            except FileNotFoundError:
                self._leave_out(parts, name, "vanished while it was collected.")
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
            raise _LeaveOut(f"is a {_kind(found.st_mode)}, not a regular file.")
        path = "/".join((*parts, output_names.decode(name)))
        if len(path) > output_names.LONGEST_PATH:
            raise _LeaveOut(f"has a path of more than {output_names.LONGEST_PATH} characters.")
        if len(self._outputs) >= self._max_files:
            raise _LeaveOut(f"is beyond the limit of {self._max_files} files.")
        descriptor = _open(name, _FLAGS, directory)
        try:
            opened = os.fstat(descriptor)
            if not stat.S_ISREG(opened.st_mode) or not os.path.samestat(opened, found):
                raise _LeaveOut("was replaced while it was collected.")
            self._copy(descriptor, path, opened.st_size)
        finally:
            os.close(descriptor)

    def _copy(self, source: int, path: str, size: int) -> None:
        kept = min(size, self._max_bytes - self._bytes)
        if kept < size and (path != STDOUT or kept == 0):
            raise _LeaveOut(f"would make the outputs larger than {self._max_bytes} bytes.")
        target = self._target / path
        make_directories(self._target, *path.split("/")[:-1])
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
            self._leave_out((), os.fsencode(path), why)

    def _leave_out(self, parts: tuple[str, ...], name: bytes, why: str) -> None:
        if len(self._left_out) < _MOST_NAMED:
            path = b"/".join([*map(os.fsencode, parts), name])
            self._left_out.append(Omission(output_names.escape(path), why))
        else:
            self._unnamed += 1


def _open(name: bytes, flags: int, directory: int) -> int:
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        raise _LeaveOut(f"cannot be opened: {error.strerror}.") from None


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")
