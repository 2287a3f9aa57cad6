"""The refusals of operations on Apps, releases and shares. Plain Python."""

from gridapps.access.refusals import Refused


class AppNotFound(Refused):
    """There is no such App, or the user may not see it. The error does not say which."""

    code = "not-found"


class InvalidApp(Refused):
    """The description of an App is invalid."""

    code = "invalid-request"


class AppIdTaken(Refused):
    """Another App has or had this app-id."""

    code = "conflict"


class AppChanged(Refused):
    """The App has changed since the caller last read it."""

    code = "precondition-failed"


class InvalidShare(Refused):
    """The request for a share or a block is invalid."""

    code = "invalid-request"


class NotShareable(Refused):
    """The release cannot be shared now."""

    code = "conflict"


class ShareNotFound(Refused):
    """There is no such share, or the user may not see it."""

    code = "not-found"


class ReleaseNotFound(Refused):
    """The App has no such release for this user. The error does not say whether it has one for others."""

    code = "not-found"


class NothingToRun(Refused):
    """The App has no release that can run now."""

    code = "conflict"


class NotAllowed(Refused):
    """The user may not run the release now."""

    code = "conflict"
