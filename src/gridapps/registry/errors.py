"""What can be wrong with a request about Apps. Plain Python: `api.errors` maps them to HTTP."""

from collections.abc import Sequence


class AppNotFound(LookupError):
    """There is no such App, or it is not the user's: nobody can tell which."""


class InvalidApp(ValueError):
    """What an App shall be cannot be taken. `fields` holds pairs of JSON pointer and sentence."""

    def __init__(self, message: str, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.fields = list(fields)


class AppIdTaken(Exception):
    """Another App has, or had, this app-id."""


class AppChanged(Exception):
    """The App is not any more what the caller last saw."""


class InvalidShare(ValueError):
    """A share or a block is asked for wrongly. `fields` holds pairs of JSON pointer and sentence."""

    def __init__(self, message: str, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.fields = list(fields)


class NotShareable(Exception):
    """The release cannot be shared as things are."""


class ShareNotFound(LookupError):
    """There is no such share, or none that the user may see."""


class ReleaseNotFound(LookupError):
    """The App has no such release for this user: nobody can tell whether there is one for others."""


class NothingToRun(Exception):
    """The App has no release that could run now."""


class NotAllowed(PermissionError):
    """The user may not run the release now. The sentence is for the user."""
