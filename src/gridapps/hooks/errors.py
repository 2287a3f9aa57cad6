"""What can be wrong with a request about hooks. Plain Python: `api.errors` maps them to HTTP."""

from collections.abc import Sequence


class HookNotFound(LookupError):
    """There is no such hook, or it is not the user's: nobody can tell which."""


class InvalidHook(ValueError):
    """What a hook shall be cannot be taken. `fields` holds pairs of JSON pointer and sentence."""

    def __init__(self, message: str, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.fields = list(fields)


class HookConflict(Exception):
    """The user has as many hooks as allowed, or the hook's state does not allow it."""
