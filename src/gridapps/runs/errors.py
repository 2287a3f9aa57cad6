"""What can be wrong with a request about runs. Plain Python: `api.errors` maps them to HTTP."""

from collections.abc import Sequence


class NotFound(LookupError):
    """There is no such thing, or it is not the user's: nobody can tell which."""


class InvalidRequest(ValueError):
    """The request is at fault. `fields` holds pairs of JSON pointer and sentence."""

    def __init__(self, message: str, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.fields = list(fields)


class Conflict(Exception):
    """The request is well formed, but the state of things does not allow it."""


class Blocked(Conflict):
    """The user may not run it now: an administrator has blocked it, or it is not shared any more."""


class TooManyQueued(Exception):
    """The user has as many tasks waiting as the instance allows."""


class QuotaExceeded(Exception):
    """The user's outputs would take more than the instance allows."""


class OutputsRemoved(Exception):
    """The run's outputs and its log were there, and are not any more."""


class LostLease(Exception):
    """The task belongs to another attempt now; what this one found out no longer counts."""


class NodeTaken(Exception):
    """Another worker works in this node's name."""
