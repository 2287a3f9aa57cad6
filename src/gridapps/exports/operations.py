"""Importing exports."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction

from gridapps.access.models import User
from gridapps.audit import record
from gridapps.exports import facts, naming, stored_files, uploads
from gridapps.exports.file_names import name_faults, shown
from gridapps.exports.headers import BadPointCloud
from gridapps.exports.models import Export, ExportFile
from gridapps.hooks import outbox
from gridapps.hooks.events import Event
from gridapps.storage import free_disk
from gridapps.storage.directory import make_directories, settle

_MOST_FILES = 10_000


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A file that was checked and stored."""

    name: str
    stored: stored_files.Stored
    sha256: str
    facts: facts.Facts


def import_export(*, owner: User, name: str, files: Sequence[Path]) -> Export:
    """Import point-cloud files as an export of `owner`: all of them, or none.

    Raises BadPointCloud with a line `FILE: sentence` for each file that cannot be imported, OSError if the
    instance's disk fails, StorageUnavailable, DiskNearlyFull.
    """
    _check_names(name, files)
    root = stored_files.root()
    require_free_disk(0)
    if root is None:
        return record_export(
            by=None, owner=owner, name=name, files=_take_all(files, lambda file, _number: take_to_s3(file))
        )
    root.mkdir(mode=0o750, parents=True, exist_ok=True)
    directory = make_directories(root, uuid.uuid4().hex)
    if os.geteuid() == 0:
        os.chown(directory, root.stat().st_uid, -1)  # the importer removes it when it is not needed
    try:
        with stored_files.in_progress(directory):
            taken = _take_all(files, lambda file, number: take(file, directory / f"{number}.laz"))
            settle(directory)
            return record_export(by=None, owner=owner, name=name, files=taken)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def require_free_disk(more: int) -> None:
    """Raise DiskNearlyFull unless `more` bytes of exports and their rows can be stored."""
    directories = [settings.DATA, *filter(None, [stored_files.root()])]
    free_disk.require(*directories, floor=settings.GRIDAPPS.min_free_disk, more=more)


def _check_names(name: str, files: Sequence[Path]) -> None:
    if not naming.is_name(name):
        raise BadPointCloud(naming.RULE)
    if not 0 < len(files) <= _MOST_FILES:
        raise BadPointCloud(f"An export has 1 to {_MOST_FILES} files; {len(files)} were given.")
    bad = [f"{shown(name)}: {fault}" for name, fault in name_faults(file.name for file in files)]
    if bad:
        raise BadPointCloud("\n".join(bad))


def _take_all(files: Sequence[Path], take: Callable[[Path, int], Imported]) -> list[Imported]:
    """Import several files at a time. Raises BadPointCloud that names every bad file."""
    taken, bad = [], []
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(take, file, number) for number, file in enumerate(files)]
        try:
            for file, future in zip(files, futures, strict=True):
                try:
                    taken.append(future.result())
                except BadPointCloud as error:
                    bad.append(f"{shown(file.name)}: {error}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if bad:
        raise BadPointCloud("\n".join(bad))
    return taken


def take_to_s3(source: Path) -> Imported:
    """Check a file and store it in S3. Raises BadPointCloud, StorageUnavailable."""
    content = uploads.upload(source)
    stored = stored_files.Stored(path=content.sha256, size=content.size, linked_mtime_ns=None)
    return Imported(name=source.name, stored=stored, sha256=content.sha256, facts=content.facts)


def take(source: Path, target: Path) -> Imported:
    """Check a file and store it at `target`, which must not exist. Raises BadPointCloud, OSError."""
    stored = stored_files.store(source, target)
    found = facts.measure(target)
    with target.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        after = os.fstat(content.fileno())
    if after.st_size != stored.size or stored.linked_mtime_ns not in {None, after.st_mtime_ns}:
        raise BadPointCloud(uploads.CHANGED)
    return Imported(name=source.name, stored=stored, sha256=sha256, facts=found)


@transaction.atomic
def record_export(
    *, by: User | None, owner: User, name: str, files: list[Imported], uploaded: bool = False
) -> Export:
    """Make the export of these files visible."""
    export = Export.objects.create(owner=owner, name=name.strip(), uploaded=uploaded)
    ExportFile.objects.bulk_create(
        ExportFile(
            export=export,
            name=file.name,
            path=file.stored.path,
            size=file.stored.size,
            linked_mtime_ns=file.stored.linked_mtime_ns,
            sha256=file.sha256,
            las_version=file.facts.las_version,
            point_format=file.facts.point_format,
            points=file.facts.points,
            bounds=file.facts.bounds,
            crs=file.facts.crs,
            crs_name=file.facts.crs_name,
            footprint=file.facts.footprint,
        )
        for file in files
    )
    record.export_imported(by=by, export=export.pk, owner=owner, files=len(files))
    outbox.note(
        event=Event.EXPORT_COMPLETE,
        owner=owner.pk,
        subject=f"export:{export.pk}",
        facts=lambda: {
            "export": {
                "pk": str(export.pk),
                "name": export.name,
                "url": f"{settings.GRIDAPPS.origin}/api/v3/exports/{export.pk}",
            }
        },
    )
    return export
