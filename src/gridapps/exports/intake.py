"""Bringing files into the storage and measuring them, a batch at a time.

The header of each file is checked first, so that a sparse file of any size is refused at once, and then its
content is hashed. If its facts are known, from an import that was interrupted or refused in the
last week, its points are not read again.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol, TypeVar

import msgspec
from django.utils import timezone

from gridapps.exports import facts, stored_files, uploads
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.facts import Facts
from gridapps.exports.file_names import Source, shown
from gridapps.exports.models import ExportFile, Measurement
from gridapps.exports.reader_process import Reader
from gridapps.exports.stored_files import Stored

CHANGED = uploads.CHANGED
_KEPT = timedelta(days=7)
_BATCH_FILES = 64
_BATCH_BYTES = 2 * 1024**3
_THREADS = min(4, os.cpu_count() or 1)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """A file that was hashed."""

    source: Source
    path: Path
    stored: Stored
    sha256: str
    status: os.stat_result  # after the hash

    def is_same(self) -> bool:
        """Whether the content is certainly the one that was hashed. A mere change of its mode counts as a
        change.
        """
        return _state(self.path.lstat()) == _state(self.status)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A file that was checked and stored."""

    name: str
    stored: Stored
    sha256: str
    facts: Facts


class Storing(Protocol):
    """How files get into the storage. Both raise BadPointCloud."""

    def hold(self, source: Source, reader: Reader) -> Hashed:
        """Check the header, then hash the file, where it was stored already or is stored by `keep`."""

    def keep(self, held: Hashed, *, used: bool) -> None:
        """Store the file, and check that it is what was hashed. `used`: an export has its content."""


class InDirectory:
    """A hard link or copy of each file in a directory.

    Without `link`, only a copy: a writer of the source must not be able to change an upload's export later.
    """

    def __init__(self, directory: Path, *, link: bool) -> None:
        self._directory = directory
        self._link = link

    def hold(self, source: Source, reader: Reader) -> Hashed:
        """Link or copy the file."""
        target = self._directory / f"{source.number}.laz"
        stored = stored_files.store(source.path, target, link=self._link)
        facts.check_header(target, reader)
        sha256, status = _hash(target)
        return Hashed(source=source, path=target, stored=stored, sha256=sha256, status=status)

    def keep(self, held: Hashed, *, used: bool) -> None:  # noqa: ARG002
        """Check that its owner did not write to it."""
        now = held.path.lstat()
        if now.st_size != held.stored.size or held.stored.linked_mtime_ns not in {None, now.st_mtime_ns}:
            raise BadPointCloud(CHANGED)


class InObjects:
    """An object of each content."""

    def hold(self, source: Source, reader: Reader) -> Hashed:
        """Hash the file where it is."""
        os.close(stored_files.open_regular(source.path))  # raises why it cannot be opened
        facts.check_header(source.path, reader)
        sha256, status = _hash(source.path)
        stored = Stored(path=sha256, size=status.st_size, linked_mtime_ns=None)
        return Hashed(source=source, path=source.path, stored=stored, sha256=sha256, status=status)

    def keep(self, held: Hashed, *, used: bool) -> None:
        """Upload it, if it is what was hashed and measured."""
        if not held.is_same():
            raise BadPointCloud(CHANGED)
        uploads.upload(held.path, sha256=held.sha256, size=held.stored.size, used=used)


def store_and_measure(
    files: Sequence[Source], storing: Storing, *, advance: Callable[[int], None]
) -> tuple[list[Imported], list[str]]:
    """Store and measure files. Returns the good ones, and a line `FILE: sentence` for each bad one.

    `advance` is called with a number of files that are done. Raises OSError, StorageUnavailable.
    """
    Measurement.objects.filter(measured_at__lt=timezone.now() - _KEPT).delete()
    taken: list[Imported] = []
    bad: list[str] = []
    with ExitStack() as stack:
        readers: SimpleQueue[Reader] = SimpleQueue()
        for _ in range(_THREADS):
            readers.put(stack.enter_context(Reader()))
        pool = ThreadPoolExecutor(max_workers=_THREADS)
        stack.callback(pool.shutdown, cancel_futures=True)
        for batch in _batches(files):
            taken += _take_batch(batch, storing, pool, readers, bad)
            advance(len(batch))
    return taken, bad


def store_and_measure_one(file: Source, storing: Storing) -> Imported:
    """Store and measure a file. Raises BadPointCloud, OSError, StorageUnavailable."""
    with Reader() as reader:
        hashed = storing.hold(file, reader)
        found = facts.measure(hashed.path, reader)
    used = ExportFile.objects.filter(path=hashed.sha256, export__deleted_at=None).exists()
    storing.keep(hashed, used=used)
    return Imported(name=file.name, stored=hashed.stored, sha256=hashed.sha256, facts=found)


def _take_batch(
    batch: list[Source],
    storing: Storing,
    pool: ThreadPoolExecutor,
    readers: "SimpleQueue[Reader]",
    bad: list[str],
) -> list[Imported]:
    def hold(source: Source) -> Hashed:
        with _borrowed(readers) as reader:
            return storing.hold(source, reader)

    held = _each(pool, hold, batch, lambda source: source.name, bad)
    hashes = {each.sha256 for each in held}
    rows = Measurement.objects.filter(pk__in=hashes, version=facts.VERSION)
    known = {row.pk: msgspec.convert(row.facts, Facts) for row in rows}
    used = set(
        ExportFile.objects.filter(path__in=hashes, export__deleted_at=None).values_list("path", flat=True)
    )

    def finish(one: Hashed) -> Imported:
        found = known.get(one.sha256)
        if found is None:
            with _borrowed(readers) as reader:
                found = facts.measure(one.path, reader)
        storing.keep(one, used=one.sha256 in used)
        return Imported(name=one.source.name, stored=one.stored, sha256=one.sha256, facts=found)

    taken = _each(pool, finish, held, lambda one: one.source.name, bad)
    sure = {one.sha256 for one in held if one.is_same()}
    new = {each.sha256: each.facts for each in taken if each.sha256 not in known and each.sha256 in sure}
    Measurement.objects.bulk_create(
        [
            Measurement(sha256=sha256, version=facts.VERSION, facts=msgspec.to_builtins(found))
            for sha256, found in new.items()
        ],
        update_conflicts=True,
        unique_fields=["sha256"],
        update_fields=["version", "facts", "measured_at"],
    )
    return taken


@contextmanager
def _borrowed(readers: "SimpleQueue[Reader]") -> Iterator[Reader]:
    reader = readers.get()
    try:
        yield reader
    finally:
        readers.put(reader)


def _each(
    pool: ThreadPoolExecutor,
    act: Callable[[Item], Result],
    items: Sequence[Item],
    name: Callable[[Item], str],
    bad: list[str],
) -> list[Result]:
    """The results of the good items. Of each bad one a line is added to `bad`."""
    results = []
    futures = [pool.submit(act, item) for item in items]
    for item, future in zip(items, futures, strict=True):
        try:
            results.append(future.result())
        except BadPointCloud as error:
            bad.append(f"{shown(name(item))}: {error}")
    return results


def _batches(files: Sequence[Source]) -> Iterator[list[Source]]:
    """The files in batches, small enough that an interruption loses little."""
    batch: list[Source] = []
    size = 0
    for file in files:
        batch.append(file)
        size += _size(file.path)
        if len(batch) == _BATCH_FILES or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _hash(path: Path) -> tuple[str, os.stat_result]:
    """SHA-256 of a regular file, and its status afterwards."""
    with os.fdopen(stored_files.open_regular(path), "rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        return sha256, os.fstat(content.fileno())


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
