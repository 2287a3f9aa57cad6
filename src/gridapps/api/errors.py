"""Errors of the API: status, stable code, sentence and fields."""

import logging
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404

from gridapps.access.refusals import Refused
from gridapps.arguments.schemas import InvalidArguments, InvalidSchema
from gridapps.storage.free_disk import DiskNearlyFull
from gridapps.storage.interface import StorageUnavailable

logger = logging.getLogger(__name__)

CODES = {
    "invalid-json": 400,
    "invalid-request": 400,
    "invalid-arguments": 400,
    "invalid-schema": 400,
    "unauthenticated": 401,
    "csrf-failed": 403,
    "insufficient-scope": 403,
    "not-a-developer": 403,
    "not-an-administrator": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "conflict": 409,
    "quota-exceeded": 409,
    "gone": 410,
    "precondition-failed": 412,
    "too-large": 413,
    "unsupported-media-type": 415,
    "range-not-satisfiable": 416,
    "too-many-queued": 429,
    "too-many-guesses": 429,
    "checksum-mismatch": 460,  # as in tus
    "internal-error": 500,
    "unavailable": 503,
    "insufficient-storage": 507,
}


class ApiError(Refused):
    """An invalid request, found by the API itself; `code` is one of CODES."""

    def __init__(self, code: str, message: str, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, fields)
        self.code = code


# Exceptions whose own messages are not for users.
_SENTENCES: dict[type[Exception], tuple[str, str]] = {
    Http404: ("not-found", "There is nothing here."),
    RequestDataTooBig: ("too-large", "The body is larger than 2 MiB, which is the limit."),
    SuspiciousOperation: ("invalid-request", "The request is malformed."),
    OperationalError: ("unavailable", "The database does not answer; try again in a few seconds."),
    InterfaceError: ("unavailable", "The database does not answer; try again in a few seconds."),
}
# How SQLite and PostgreSQL say it.
_DISK_FULL = re.compile(r"disk is full|No space left on device")
_RETRY_AFTER = {"unavailable": "5", "too-many-queued": "60", "too-many-guesses": "60"}


@dataclass(frozen=True)
class Answer:
    """An error as the API sends it."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def answer(error: Exception) -> Answer:
    """The answer for this exception. Of an unknown one it has only the id of its log entry."""
    if isinstance(error, Refused):
        return say(error.code, str(error), _fields(error))
    if isinstance(error, DiskNearlyFull):
        return say("insufficient-storage", str(error))
    if isinstance(error, StorageUnavailable):
        return say("unavailable", str(error))
    if isinstance(error, OperationalError) and _DISK_FULL.search(str(error)):
        logger.warning("%s: %s", type(error).__name__, error)
        return say("insufficient-storage", "The instance's disk is full; try again later.")
    for kind in type(error).__mro__:
        if kind in _SENTENCES:
            logger.info("%s: %s", type(error).__name__, error)
            return say(*_SENTENCES[kind])
    return unexpected(error)


def say(code: str, sentence: str, fields: list[tuple[str, str]] | None = None) -> Answer:
    """The answer of this code."""
    body: dict[str, Any] = {"error": sentence, "code": code}
    if fields:
        body["fields"] = [{"pointer": pointer, "error": text} for pointer, text in fields]
    headers = {"Retry-After": _RETRY_AFTER[code]} if code in _RETRY_AFTER else {}
    if code == "unauthenticated":
        headers["WWW-Authenticate"] = 'Bearer realm="api", scope="api"'
    if code == "insufficient-scope":
        headers["WWW-Authenticate"] = 'Bearer realm="api", error="insufficient_scope"'
    return Answer(CODES[code], body, headers)


def unexpected(error: Exception | None) -> Answer:
    """An internal error: an id for the user, everything else for the log."""
    number = uuid.uuid4().hex
    logger.error("Internal error %s", number, exc_info=error)
    sentence = (
        f"The instance failed at this request. The administrators find the reason in the log under {number}."
    )
    return Answer(500, {"error": sentence, "code": "internal-error", "id": number})


def _fields(error: Refused) -> list[tuple[str, str]]:
    # The pointers of schemas and arguments start at /arguments in the request.
    inside = "/arguments" if isinstance(error, InvalidSchema | InvalidArguments) else ""
    return [(inside + pointer, text) for pointer, text in error.fields]
