"""Checking uploads that have arrived, as `import` checks files, and making their exports.

The importer calls this. One file of a user is checked at a time, so that one user's files do not hold up
those of others. A file that is being checked when the process dies is checked again.
"""

import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Value
from django.db.models.functions import Now

from gridapps.exports import incoming, intake, operations, receiving, stored_files
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.file_names import Source, shown
from gridapps.exports.intake import Imported, InDirectory, InObjects
from gridapps.exports.models import ExportUpload, UploadFile
from gridapps.exports.upload_states import UPLOAD_MOVES, UploadState
from gridapps.moves import move
from gridapps.storage.directory import make_directories, settle
from gridapps.storage.interface import StorageUnavailable

TRIES = 5
KEPT = timedelta(days=30)  # for which an upload that has ended is listed
_EXPIRED = "Nothing arrived for a day, so the upload was given up. Begin it again."
_GIVEN_UP = f"The check was begun {TRIES} times and did not end. Ask an administrator to look into the log."
_DIFFERENT = "The file arrived with another content than was announced: it was changed while it was sent."


def next_file(*, but: set[int]) -> UploadFile | None:
    """The file to check next, of an owner who is not among `but`; the oldest upload comes first."""
    waiting = UploadFile.objects.filter(upload__state=UploadState.CHECKING, taken__isnull=True, reason="")
    waiting = waiting.exclude(upload__owner__in=but).select_related("upload__owner")
    return waiting.order_by("upload__created_at", "upload", "index").first()


def check(file: UploadFile) -> None:
    """Check one file and store it; after the last one of an upload, make the export.

    Raises StorageUnavailable, and OSError if a disk fails; call it again later.
    """
    begun = UploadFile.objects.filter(pk=file.pk, tries__lt=TRIES).update(tries=F("tries") + 1)
    try:
        if not begun:
            raise BadPointCloud(_GIVEN_UP)
        taken = _take(file)
    except BadPointCloud as error:
        UploadFile.objects.filter(pk=file.pk).update(reason=str(error))
    except (StorageUnavailable, OSError):
        UploadFile.objects.filter(pk=file.pk).update(tries=F("tries") - 1)
        raise
    else:
        UploadFile.objects.filter(pk=file.pk).update(taken=msgspec.to_builtins(taken))
    incoming.discard(incoming.path_of(file))


def finish() -> None:
    """Make the exports of the uploads whose files have all been checked."""
    left = UploadFile.objects.filter(upload=OuterRef("pk"), taken__isnull=True, reason="")
    for upload in ExportUpload.objects.filter(~Exists(left), state=UploadState.CHECKING).select_related(
        "owner"
    ):
        _finish(upload)


def expire() -> None:
    """End uploads that no longer receive anything, and remove leftovers."""
    receiving.complete_arrived()
    late = Now() - Value(receiving.EXPIRES)
    expired = ExportUpload.objects.filter(state=UploadState.RECEIVING, active_at__lt=late)
    for upload in expired:
        if move(
            expired.filter(pk=upload.pk), UploadState.REFUSED, UPLOAD_MOVES, reason=_EXPIRED, ended_at=Now()
        ):
            incoming.remove(upload)
    ExportUpload.objects.filter(ended_at__lt=Now() - Value(KEPT)).delete()
    for path in incoming.strays():
        incoming.discard(path)


def _take(file: UploadFile) -> Imported:
    """Raises BadPointCloud, StorageUnavailable, OSError."""
    source = incoming.path_of(file)
    if incoming.arrived(file) != file.size:
        raise BadPointCloud("The instance has lost the file. Upload it again.")
    arrived = Source(name=file.name, path=source, number=file.index)
    root = stored_files.root()
    if root is None:
        taken = intake.store_and_measure_one(arrived, InObjects())
    else:
        directory = make_directories(root, file.upload_id.hex)
        target = directory / f"{file.index}.laz"
        target.unlink(missing_ok=True)
        with stored_files.in_progress(directory):
            taken = _measured(arrived, directory, target)
            settle(directory)
    if file.sha256 and file.sha256 != taken.sha256:
        raise BadPointCloud(_DIFFERENT)
    return taken


def _measured(arrived: Source, directory: Path, target: Path) -> Imported:
    try:
        return intake.store_and_measure_one(arrived, InDirectory(directory, link=False))
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _finish(upload: ExportUpload) -> None:
    files = list(upload.files.all())
    bad = [f"{shown(file.name)}: {file.reason}" for file in files if file.reason]
    good = [msgspec.convert(file.taken, Imported) for file in files if not file.reason]
    refused = not good or (bad and not upload.skip_bad)
    rows = ExportUpload.objects.filter(pk=upload.pk)
    with transaction.atomic():
        if (
            not ExportUpload.objects.select_for_update()
            .filter(pk=upload.pk, state=UploadState.CHECKING)
            .exists()
        ):
            return
        if refused:
            move(rows, UploadState.REFUSED, UPLOAD_MOVES, reason="\n".join(bad)[:100_000], ended_at=Now())
        else:
            export = operations.record_export(
                by=upload.owner, owner=upload.owner, name=upload.name, files=good, uploaded=True
            )
            move(rows, UploadState.READY, UPLOAD_MOVES, export=export, ended_at=Now())
        UploadFile.objects.filter(upload=upload).update(taken=None)
    if refused and (root := stored_files.root()) is not None:
        shutil.rmtree(root / upload.pk.hex, ignore_errors=True)


def unfinished() -> set[str]:
    """The directories of `exports/` that belong to uploads in progress."""
    return {upload.hex for upload in ExportUpload.objects.filter(ended_at=None).values_list("pk", flat=True)}
