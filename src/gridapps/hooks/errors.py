"""Errors of requests about hooks. Plain Python."""

from gridapps.access.refusals import Refused


class HookNotFound(Refused):
    """It does not exist, or belongs to another user: the error does not tell which."""

    code = "not-found"


class InvalidHook(Refused):
    """A field of the hook is invalid. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class HookConflict(Refused):
    """The user has as many hooks as allowed, or the hook's state does not allow it."""

    code = "conflict"
