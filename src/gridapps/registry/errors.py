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
