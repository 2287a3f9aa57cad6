"""The errors of the client. Each message is a sentence that says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FieldError:
    """An error in a request. `pointer` is a JSON pointer into the body, or `?name` for a query parameter."""

    pointer: str
    error: str


class GridAppsError(Exception):
    """A failed call. `status`: the HTTP status, 0 without an answer. `code`: stable, for programs."""

    def __init__(
        self, message: str, *, status: int = 0, code: str = "client", fields: tuple[FieldError, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.fields = fields

    def __str__(self) -> str:
        # The message of an error about one field is often that of the field.
        new = [field for field in self.fields if field.error.rstrip(".") not in self.message]
        faults = "; ".join(f"{field.pointer}: {field.error}" for field in new)
        return f"{self.message} {faults}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """The error in the API's form, with the HTTP status (0 without an answer)."""
        fields = [{"pointer": field.pointer, "error": field.error} for field in self.fields]
        return {"error": self.message, "code": self.code, "status": self.status, "fields": fields}


class Unreachable(GridAppsError):
    """There was no answer: nothing listens, the connection broke, or it timed out. Trying again may help."""


class Untrusted(GridAppsError):
    """The instance's TLS certificate was not accepted. Trying again does not help."""


class Unauthenticated(GridAppsError):
    """401: there is no token, or it is not valid."""


class NotFound(GridAppsError):
    """404: it does not exist, or it is not visible to this user."""


class Conflict(GridAppsError):
    """409 or 412: the request conflicts with the present state."""


class BadAnswer(GridAppsError):
    """The answer does not follow docs/api.md: another kind of server, or another version."""
