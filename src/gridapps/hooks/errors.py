"""What can be wrong with a request about hooks. Plain Python."""

from gridapps.access.refusals import Refused


class HookNotFound(Refused):
    """There is no such hook, or it is not the user's. The caller cannot tell which."""

    code = "not-found"


class InvalidHook(Refused):
    """What a hook shall be cannot be taken. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class HookConflict(Refused):
    """The user has as many hooks as allowed, or the hook's state does not allow it."""

    code = "conflict"
