"""Shapes of uploads."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gridapps.api.native.answers import Shape
from gridapps.api.native.shapes import Text, Time, whole
from gridapps.exports.file_names import MAX_FILE_NAME
from gridapps.exports.naming import MAX_NAME
from gridapps.exports.receiving import MAX_FILE, MAX_FILES


class AnnouncedFile(Shape):
    """A file that will be sent. `sha256` is compared with what arrives."""

    name: Annotated[Text, Field(min_length=1, max_length=MAX_FILE_NAME)]
    size: Annotated[int, Field(strict=True, ge=1, le=MAX_FILE), BeforeValidator(whole)]
    sha256: Annotated[Text, Field(pattern="^([0-9a-f]{64})?$")] = ""


class UploadRequest(Shape):
    """`name` of the export. `skip_bad`: files that are refused are left out of it."""

    name: Annotated[Text, Field(min_length=1, max_length=MAX_NAME)]
    files: Annotated[list[AnnouncedFile], Field(min_length=1, max_length=MAX_FILES)]
    skip_bad: Annotated[bool, Field(strict=True)] = False


class UploadedFile(Shape):
    """`offset`: how many bytes have arrived. `reason`: why the file was refused."""

    index: int
    name: str
    size: int
    sha256: str
    offset: int
    reason: str
    url: str


class Upload(Shape):
    """`export`: the key of the export that it became. `reason`: why it was refused."""

    id: str
    name: str
    skip_bad: bool
    state: Literal["receiving", "checking", "ready", "refused"]
    reason: str
    export: str | None
    created_at: Time
    expires_at: Time | None
    ended_at: Time | None
    files: list[UploadedFile]


class UploadQuota(Shape):
    """Bytes. `limit` is null if there is none."""

    used: int
    limit: int | None


class UploadsAnswer(Shape):
    uploads: list[Upload]
    quota: UploadQuota
    next: str = ""
