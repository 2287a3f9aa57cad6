"""Errors of requests about runs. Plain Python."""

from gridapps.access.refusals import Refused


class NotFound(Refused):
    """The object does not exist or belongs to another user; the error does not say which."""

    code = "not-found"


class InvalidRequest(Refused):
    """The request is invalid. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class Conflict(Refused):
    """The request is valid, but the present state does not allow it."""

    code = "conflict"


class Blocked(Conflict):
    """The user may not run the release now: it is blocked, or no longer shared."""

    code = "conflict"


class TooManyQueued(Refused):
    """The user has as many tasks waiting as the instance allows."""

    code = "too-many-queued"


class QuotaExceeded(Refused):
    """The user's outputs would take more than the instance allows."""

    code = "quota-exceeded"


class OutputsRemoved(Refused):
    """The run's outputs and its log were removed."""

    code = "gone"


class LostLease(Exception):
    """The task belongs to another attempt now; results of this one are discarded."""


class CancelRequested(Exception):
    """The run is to be canceled, so no program of it may start."""


class NodeTaken(Exception):
    """Another worker acts for this node."""
