"""Importing exports."""

import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from django.conf import settings
from django.db import transaction

from gridapps.access.models import User
from gridapps.audit import record
from gridapps.exports import file_names, intake, naming, stored_files
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.intake import Imported, InDirectory, InObjects
from gridapps.exports.models import Export, ExportFile
from gridapps.hooks import outbox
from gridapps.hooks.events import Event
from gridapps.storage import free_disk
from gridapps.storage.directory import make_directories, settle

_MOST_FILES = 10_000


def import_export(
    *,
    owner: User,
    name: str,
    files: Sequence[Path],
    left_out: list[str] | None = None,
    follow: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Export:
    """Import point-cloud files as an export of `owner`: all of them, or none.

    With a list `left_out`, files that cannot be imported are left out instead, and a line `FILE: sentence`
    for each is added to it. `follow`: symbolic links stand for the files they point to. `advance` is called
    with a number of files that are done. What an interrupted or refused import has measured is not read
    again.

    Raises BadPointCloud with a line for each file that cannot be imported, OSError if the instance's disk
    fails, StorageUnavailable, DiskNearlyFull.
    """
    _check(name, files)
    sources, bad = file_names.sources(files, follow=follow)
    if bad and left_out is None:
        raise BadPointCloud("\n".join(bad))
    advance(len(bad))

    def take(storing: intake.Storing) -> list[Imported]:
        taken, worse = intake.store_and_measure(sources, storing, advance=advance)
        return _good(taken, bad + worse, left_out)

    root = stored_files.root()
    require_free_disk(0)
    if root is None:
        return record_export(by=None, owner=owner, name=name, files=take(InObjects()))
    root.mkdir(mode=0o750, parents=True, exist_ok=True)
    directory = make_directories(root, uuid.uuid4().hex)
    if os.geteuid() == 0:
        os.chown(directory, root.stat().st_uid, -1)  # the importer removes it when it is not needed
    try:
        with stored_files.in_progress(directory):
            taken = take(InDirectory(directory, link=True))
            _remove_others(directory, taken)
            settle(directory)
            return record_export(by=None, owner=owner, name=name, files=taken)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def require_free_disk(more: int) -> None:
    """Raise DiskNearlyFull unless `more` bytes of exports and their rows can be stored."""
    directories = [settings.DATA, *filter(None, [stored_files.root()])]
    free_disk.require(*directories, floor=settings.GRIDAPPS.min_free_disk, more=more)


def _check(name: str, files: Sequence[Path]) -> None:
    if not naming.is_name(name):
        raise BadPointCloud(naming.RULE)
    if not 0 < len(files) <= _MOST_FILES:
        raise BadPointCloud(f"An export has 1 to {_MOST_FILES} files; {len(files)} were given.")


def _good(taken: list[Imported], bad: list[str], left_out: list[str] | None) -> list[Imported]:
    """The files that are imported. Raises BadPointCloud if there are none, or if none may be left out."""
    if bad and (left_out is None or not taken):
        raise BadPointCloud("\n".join(bad))
    if left_out is not None:
        left_out += bad
    return taken


def _remove_others(directory: Path, taken: list[Imported]) -> None:
    """Remove files that are left out."""
    used = {Path(each.stored.path).name for each in taken}
    for file in directory.iterdir():
        if file.name not in used:
            file.unlink()


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
            crs_code=file.facts.crs_code,
            footprint=file.facts.wkb,
            geojson=msgspec.to_builtins(file.facts.geojson),
            returns=file.facts.returns,
            gps_time=file.facts.gps_time,
            remarks=file.facts.remarks,
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
