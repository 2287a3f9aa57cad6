"""Errors of requests about exports. Plain Python."""

from gridapps.access.refusals import Refused


class InvalidExport(Refused):
    """The name of an export is invalid. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class ExportNotFound(Refused):
    """There is no such export, or it belongs to another user. The error does not say which."""

    code = "not-found"
