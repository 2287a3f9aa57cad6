"""Uploads: announcing files, receiving their bytes in parts, and deleting uploads.

The protocol is described in docs/uploads.md. When the last byte has arrived, the importer checks the files
(`upload_checks`).
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet, Sum, Value
from django.db.models.functions import Now

from gridapps.access.models import User
from gridapps.audit import record
from gridapps.exports import importer_bell, incoming, naming, upload_quota
from gridapps.exports.errors import (
    ChecksumMismatch,
    InvalidExport,
    UploadConflict,
    UploadNotFound,
    UploadTooLarge,
)
from gridapps.exports.file_names import MAX_FILE_NAME, name_faults
from gridapps.exports.models import ExportUpload, UploadFile
from gridapps.exports.upload_states import MAX_PART, UPLOAD_MOVES, UploadState
from gridapps.moves import move

MAX_FILES = 1000  # of an upload
MAX_FILE = 2**43  # bytes of a file, 8 TiB
MAX_OPEN = 10  # uploads of a user that have not ended
MAX_ENDED = 50  # uploads of a user that have ended and are still listed
EXPIRES = timedelta(days=1)  # after the last byte
CHECKSUMS = {"sha1": 20, "sha256": 32}  # bytes of a digest, by algorithm
_NOTED = timedelta(minutes=1)  # between two updates of `active_at`


@dataclass(frozen=True, kw_only=True)
class Announced:
    """A file that a user is going to send. `sha256`: hexadecimal, or empty."""

    name: str
    size: int  # bytes
    sha256: str = ""


def visible_to(user: User) -> QuerySet[ExportUpload]:
    """The user's own uploads, with their files."""
    return ExportUpload.objects.filter(owner=user).prefetch_related("files")


def begin(*, by: User, name: str, files: Sequence[Announced], skip_bad: bool) -> ExportUpload:
    """Begin an upload of these files, which become an export with this name.

    Raises InvalidExport, UploadConflict beyond the limit, UploadQuotaExceeded, NoDiskSpace.
    """
    kept = naming.checked_name(name)
    _check(files)
    total = sum(file.size for file in files)
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=by.pk)
        mine = ExportUpload.objects.filter(owner=by)
        if mine.filter(ended_at=None).count() >= MAX_OPEN:
            raise UploadConflict(
                f"You have {MAX_OPEN} uploads that have not ended: wait for one of them, or delete one."
            )
        upload_quota.require_within(by, more=total)
        outstanding = UploadFile.objects.filter(upload__ended_at=None, received=False)
        # Twice: a file is copied when it has been checked.
        incoming.require_space(2 * total + (outstanding.aggregate(sum=Sum("size"))["sum"] or 0))
        for old in mine.exclude(ended_at=None).order_by("-ended_at")[MAX_ENDED - 1 :]:
            old.delete()
        upload = ExportUpload.objects.create(owner=by, name=kept, skip_bad=skip_bad, active_at=Now())
        UploadFile.objects.bulk_create(
            UploadFile(upload=upload, index=index, name=file.name, size=file.size, sha256=file.sha256)
            for index, file in enumerate(files)
        )
        record.upload_begun(by=by, upload=upload.pk, files=len(files), size=total)
    return visible_to(by).get(pk=upload.pk)


def file_of(*, by: User, upload: UUID, index: int) -> UploadFile:
    """A file of your own upload. Raises UploadNotFound."""
    found = UploadFile.objects.select_related("upload").filter(upload=upload, upload__owner=by, index=index)
    if (file := found.first()) is None:
        raise UploadNotFound("There is nothing here, or it is not yours.")
    return file


def receive(*, file: UploadFile, offset: int, content: bytes, checksum: tuple[str, bytes] | None) -> int:
    """Append a part that begins at `offset`. Returns how many bytes of the file have arrived.

    `checksum`: an algorithm of CHECKSUMS, and the digest. If it raises, nothing is appended. Raises
    UploadConflict, UploadTooLarge, ChecksumMismatch, NoDiskSpace.
    """
    if len(content) > MAX_PART:
        raise UploadTooLarge(f"A part has at most {MAX_PART} bytes.")
    if checksum and not hmac.compare_digest(_digest(checksum[0], content), checksum[1]):
        raise ChecksumMismatch(
            "The part does not have its checksum: it was changed on the way. Send it again."
        )
    _require_receiving(file.upload)
    incoming.require_space(len(content))
    with incoming.writing(file) as descriptor:
        here = incoming.arrived(file)
        if offset != here:
            raise UploadConflict(f"{here} bytes of this file have arrived, so a part begins there.")
        if here + len(content) > file.size:
            raise UploadTooLarge(f"The file was announced with {file.size} bytes.")
        incoming.append(descriptor, content, end=here + len(content) == file.size)
        here += len(content)
    stale = Q(active_at__lt=Now() - Value(_NOTED))
    ExportUpload.objects.filter(stale, pk=file.upload_id).update(active_at=Now())
    if here == file.size:
        _complete(file)
    return here


def abandon(*, by: User, upload: ExportUpload) -> None:
    """Delete your own upload, and what has arrived. The export that it became stays. Idempotent."""
    with transaction.atomic():
        row = ExportUpload.objects.select_for_update().filter(pk=upload.pk, owner=by).first()
        if row is None:
            return
        if row.ended_at is None:
            record.upload_abandoned(by=by, upload=row.pk)
        row.delete()
    incoming.remove(upload)


def complete_arrived() -> None:
    """Record that files have arrived, where the process that received them ended before it could."""
    waiting = UploadFile.objects.filter(upload__state=UploadState.RECEIVING, received=False)
    for file in waiting.iterator():
        if incoming.arrived(file) == file.size:
            _complete(file)


def _complete(file: UploadFile) -> None:
    """Record that a file has arrived; after the last one, let the importer check the upload."""
    with transaction.atomic():
        if not ExportUpload.objects.select_for_update().filter(pk=file.upload_id).exists():
            return
        UploadFile.objects.filter(pk=file.pk).update(received=True)
        rows = ExportUpload.objects.filter(pk=file.upload_id)
        if not UploadFile.objects.filter(upload=file.upload_id, received=False).exists():
            move(rows, UploadState.CHECKING, UPLOAD_MOVES)
            importer_bell.ring_on_commit()


def _require_receiving(upload: ExportUpload) -> None:
    if upload.state != UploadState.RECEIVING:
        raise UploadConflict(f"This upload takes no more data: it is {upload.state}.")


def _digest(algorithm: str, content: bytes) -> bytes:
    return hashlib.new(algorithm, content, usedforsecurity=False).digest()


def _check(files: Sequence[Announced]) -> None:
    """Raises InvalidExport with a sentence for each file that cannot be in an export."""
    if not 0 < len(files) <= MAX_FILES:
        raise InvalidExport("The files are invalid.", [("/files", f"An upload has 1 to {MAX_FILES} files.")])
    bad = dict(name_faults(file.name for file in files))
    for file in files:
        if not 0 < file.size <= MAX_FILE:
            bad[file.name] = f"A file has 1 to {MAX_FILE} bytes."
        elif len(file.name) > MAX_FILE_NAME:
            bad[file.name] = f"The file's name has more than {MAX_FILE_NAME} characters. Rename it."
    if bad:
        faults = [(f"/files/{at}", bad[file.name]) for at, file in enumerate(files) if file.name in bad]
        raise InvalidExport("An export cannot have these files.", faults[:20])
