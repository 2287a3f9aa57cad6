"""What can be wrong with a request about Apps. Plain Python."""

from gridapps.access.refusals import Refused


class AppNotFound(Refused):
    """There is no such App, or it is not the user's: nobody can tell which."""

    code = "not-found"


class InvalidApp(Refused):
    """What an App shall be cannot be taken. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class AppIdTaken(Refused):
    """Another App has, or had, this app-id."""

    code = "conflict"


class AppChanged(Refused):
    """The App is not any more what the caller last saw."""

    code = "precondition-failed"


class InvalidShare(Refused):
    """A share or a block is asked for wrongly. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class NotShareable(Refused):
    """The release cannot be shared as things are."""

    code = "conflict"


class ShareNotFound(Refused):
    """There is no such share, or none that the user may see."""

    code = "not-found"


class ReleaseNotFound(Refused):
    """The App has no such release for this user: nobody can tell whether there is one for others."""

    code = "not-found"


class NothingToRun(Refused):
    """The App has no release that can run now."""

    code = "conflict"


class NotAllowed(Refused):
    """The user may not run the release now."""

    code = "conflict"
