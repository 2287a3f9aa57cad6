"""What can be wrong with a request about users and developers. Plain Python: `api.errors` maps it to HTTP."""

from collections.abc import Sequence


class InvalidUser(ValueError):
    """A name or password that cannot be taken. `fields` holds pairs of JSON pointer and sentence."""

    def __init__(self, message: str, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.fields = list(fields)


class UsernameTaken(Exception):
    """Another user has this name."""


class NotAnAdministrator(PermissionError):
    """Only administrators may do this."""


class LastAdministrator(Exception):
    """Without this user nobody would administer the instance."""


class NotADeveloper(PermissionError):
    """Only developers whom an administrator has verified may do this."""


class InvalidApplication(ValueError):
    """An OAuth application cannot be registered so."""


class InvalidTag(ValueError):
    """An access tag cannot be called so, or there is none of this name."""


class TagInUse(Exception):
    """Something carries the access tag, or carried it."""


class TagTaken(Exception):
    """There is an access tag of this name."""
