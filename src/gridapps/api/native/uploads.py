"""`/uploads`: files that a user sends, which become an export. Their bytes arrive by the protocol tus 1.0."""

import base64
import binascii
import re
from datetime import datetime

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.http import http_date
from ninja import Router, Status

from gridapps.access.models import User
from gridapps.api.errors import ApiError
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import FileIndex, UploadId, tus
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.parsing import not_found, uuid
from gridapps.api.native.upload_shapes import Upload, UploadedFile, UploadQuota, UploadRequest, UploadsAnswer
from gridapps.exports import incoming, models, receiving, upload_quota
from gridapps.exports.upload_states import MAX_PART, UploadState

router = Router(tags=["uploads"], auth=with_scope("exports", "exports:write"))
VERSION = "1.0.0"  # of tus
MEDIA_TYPE = "application/offset+octet-stream"


@router.get("/uploads", response=reads(ok=UploadsAnswer), operation_id="list_uploads", exclude_unset=True)
def index(request: HttpRequest, limit: Limit = 100, after: After = None) -> UploadsAnswer:
    """Your uploads, newest first, and how much of your quota is used."""
    user = user_of(request)
    rows = receiving.visible_to(user)
    found, following = page(request, rows, ("-created_at", "-id"), limit=limit, after=after)
    return UploadsAnswer(uploads=[_shown(upload) for upload in found], quota=_quota(user), **following)


@router.post(
    "/uploads",
    response=writes(409, body=True, status_201=UploadsAnswer),
    operation_id="begin_upload",
    exclude_unset=True,
)
def begin(request: HttpRequest, body: UploadRequest) -> Status[UploadsAnswer]:
    """Announce files, which you then send to their URLs. Once all have arrived they are checked, and become
    an export."""
    user = user_of(request)
    files = [receiving.Announced(name=each.name, size=each.size, sha256=each.sha256) for each in body.files]
    upload = receiving.begin(by=user, name=body.name, files=files, skip_bad=body.skip_bad)
    return Status(201, UploadsAnswer(uploads=[_shown(upload)], quota=_quota(user)))


@router.get(
    "/uploads/{upload_id}",
    response=reads(404, ok=UploadsAnswer),
    operation_id="show_upload",
    exclude_unset=True,
)
def show(request: HttpRequest, upload_id: UploadId) -> UploadsAnswer:
    """One upload, with what has arrived of each file."""
    user = user_of(request)
    return UploadsAnswer(uploads=[_shown(_own(user, upload_id))], quota=_quota(user))


@router.delete(
    "/uploads/{upload_id}",
    response=writes(404, body=False, status_204=None),
    operation_id="delete_upload",
)
def delete(request: HttpRequest, upload_id: UploadId) -> Status[None]:
    """Delete an upload and what has arrived of it. An export that it became stays."""
    user = user_of(request)
    receiving.abandon(by=user, upload=_own(user, upload_id))
    return Status(204, None)


@router.get(
    "/uploads/{upload_id}/files/{index}",
    response=reads(404, 412, ok=None),
    operation_id="find_upload_offset",
    openapi_extra=tus(200, "Upload-Offset", "Upload-Length"),
)
def offset(
    request: HttpRequest, response: HttpResponse, upload_id: UploadId, index: FileIndex
) -> Status[None]:
    """How many bytes of a file have arrived: where to go on. Clients of tus ask with HEAD."""
    file = _file(user_of(request), upload_id, index)
    _check_version(request)
    _note(response, file, incoming.arrived(file) if not file.received else file.size)
    return Status(200, None)


@router.patch(
    "/uploads/{upload_id}/files/{index}",
    response=writes(404, 409, 412, 413, 415, 460, body=False, status_204=None),
    operation_id="send_upload_part",
    openapi_extra=tus(204, "Upload-Offset")
    | {
        "requestBody": {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}},
    },
)
def send(request: HttpRequest, response: HttpResponse, upload_id: UploadId, index: FileIndex) -> Status[None]:
    """Send a part of a file, of at most 8 MiB. It begins where the last one ended."""
    file = _file(user_of(request), upload_id, index)
    _check_version(request)
    if request.content_type != MEDIA_TYPE:
        raise ApiError("unsupported-media-type", f"The body must be {MEDIA_TYPE}.")
    beginning, checksum = _beginning(request), _checksum(request)
    content = request.read(MAX_PART + 1)
    _note(response, file, receiving.receive(file=file, offset=beginning, content=content, checksum=checksum))
    return Status(204, None)


def _check_version(request: HttpRequest) -> None:
    """Clients of tus name its version; others need not."""
    if request.headers.get("Tus-Resumable", VERSION) != VERSION:
        raise ApiError("precondition-failed", f"This instance speaks version {VERSION} of tus.")


def _beginning(request: HttpRequest) -> int:
    text = request.headers.get("Upload-Offset", "")
    if not re.fullmatch("[0-9]{1,15}", text):
        raise ApiError("invalid-request", "The header Upload-Offset must hold the offset of the part.")
    return int(text)


def _checksum(request: HttpRequest) -> tuple[str, bytes] | None:
    text = request.headers.get("Upload-Checksum")
    if text is None:
        return None
    algorithm, _, encoded = text.partition(" ")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != receiving.CHECKSUMS.get(algorithm, 0) or not digest:
        raise ApiError(
            "invalid-request",
            "The header Upload-Checksum must hold sha1 or sha256, and the digest in base64.",
        )
    return algorithm, digest


def _note(response: HttpResponse, file: models.UploadFile, offset: int) -> None:
    response["Tus-Resumable"] = VERSION
    response["Upload-Offset"] = str(offset)
    response["Upload-Length"] = str(file.size)
    response["Cache-Control"] = "no-store"
    if (expires := _expires(file.upload)) is not None:
        response["Upload-Expires"] = http_date(expires.timestamp())


def _own(user: User, upload_id: str) -> models.ExportUpload:
    found = receiving.visible_to(user).filter(pk=uuid(upload_id)).first()
    if found is None:
        raise not_found()
    return found


def _file(user: User, upload_id: str, index: str) -> models.UploadFile:
    if not re.fullmatch("[0-9]{1,4}", index):
        raise not_found()
    return receiving.file_of(by=user, upload=uuid(upload_id), index=int(index))


def _expires(upload: models.ExportUpload) -> datetime | None:
    return upload.active_at + receiving.EXPIRES if upload.state == UploadState.RECEIVING else None


def _quota(user: User) -> UploadQuota:
    return UploadQuota(used=upload_quota.used(user), limit=settings.GRIDAPPS.max_uploads or None)


def _shown(upload: models.ExportUpload) -> Upload:
    url = f"{settings.GRIDAPPS.origin}/api/v3/uploads/{upload.pk}/files"
    return Upload(
        id=str(upload.pk),
        name=upload.name,
        skip_bad=upload.skip_bad,
        state=UploadState(upload.state).value,
        reason=upload.reason,
        export=str(upload.export_id) if upload.export_id else None,
        created_at=upload.created_at,
        expires_at=_expires(upload),
        ended_at=upload.ended_at,
        files=[
            UploadedFile(
                index=file.index,
                name=file.name,
                size=file.size,
                sha256=file.sha256,
                offset=file.size if file.received else incoming.arrived(file),
                reason=file.reason,
                url=f"{url}/{file.index}",
            )
            for file in upload.files.all()
        ],
    )
