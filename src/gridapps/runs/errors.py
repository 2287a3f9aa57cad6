"""What can be wrong with a request about runs. Plain Python."""

from gridapps.access.refusals import Refused


class NotFound(Refused):
    """There is no such object, or it is not the user's. The caller cannot tell which."""

    code = "not-found"


class InvalidRequest(Refused):
    """The request is at fault. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class Conflict(Refused):
    """The request is well formed, but the state of things does not allow it."""

    code = "conflict"


class Blocked(Conflict):
    """The user may not run it now: an administrator has blocked it, or it is not shared any more."""

    code = "conflict"


class TooManyQueued(Refused):
    """The user has as many tasks waiting as the instance allows."""

    code = "too-many-queued"


class QuotaExceeded(Refused):
    """The user's outputs would take more than the instance allows."""

    code = "quota-exceeded"


class OutputsRemoved(Refused):
    """The run's outputs and its log were there, and are not any more."""

    code = "gone"


class LostLease(Exception):
    """The task belongs to another attempt now; what this one found out no longer counts."""


class NodeTaken(Exception):
    """Another worker works in this node's name."""
