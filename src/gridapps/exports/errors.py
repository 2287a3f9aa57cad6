"""Errors of requests about exports. Plain Python."""

from gridapps.access.refusals import Refused


class InvalidExport(Refused):
    """The name or a file of an export is invalid. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class ExportNotFound(Refused):
    """There is no such export, or it belongs to another user. The error does not say which."""

    code = "not-found"


class UploadNotFound(Refused):
    """There is no such upload or file, or it belongs to another user. The error does not say which."""

    code = "not-found"


class UploadConflict(Refused):
    """The state of the upload does not allow the request."""

    code = "conflict"


class UploadTooLarge(Refused):
    """A part is larger than allowed, or reaches beyond the announced end of its file."""

    code = "too-large"


class ChecksumMismatch(Refused):
    """A part arrived with another content than its checksum says."""

    code = "checksum-mismatch"


class UploadQuotaExceeded(Refused):
    """The user's uploads would take more than the instance allows."""

    code = "quota-exceeded"


class NoDiskSpace(Refused):
    """The disk has no space for the upload."""

    code = "unavailable"


class BadPointCloud(Refused):
    """The file is not a valid point cloud. The message is a sentence, or a line for each file."""

    code = "invalid-request"
