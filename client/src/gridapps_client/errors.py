"""What can go wrong between a client and an instance, each as a sentence that says what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """One fault in a request: `pointer` is a JSON pointer into the body, or `?name` for a query parameter."""

    pointer: str
    error: str


class GridAppsError(Exception):
    """A call failed. `status`: of HTTP, 0 when no answer came. `code`: stable, for programs."""

    def __init__(
        self, message: str, *, status: int = 0, code: str = "client", fields: tuple[FieldError, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.fields = fields

    def __str__(self) -> str:
        faults = "; ".join(f"{field.pointer}: {field.error}" for field in self.fields)
        return f"{self.message} {faults}".rstrip()


class Unreachable(GridAppsError):
    """No answer came: nothing listens there, the connection broke, or time was up. Trying again may help."""


class Untrusted(GridAppsError):
    """The instance's TLS certificate did not pass. Trying again does not help."""


class Unauthenticated(GridAppsError):
    """401: there is no token, or it is no longer good."""


class NotFound(GridAppsError):
    """404: it does not exist, or it is not visible to this user."""


class Conflict(GridAppsError):
    """409 or 412: what is asked for does not fit the present state."""


class BadAnswer(GridAppsError):
    """The answer is not what docs/api.md promises: another kind of server, or another version."""
