"""What can be wrong with a request about users and developers. Plain Python."""

from gridapps.access.refusals import Refused


class InvalidUser(Refused):
    """A name or password that cannot be taken. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class UsernameTaken(Refused):
    """Another user has this name."""

    code = "conflict"


class NotAnAdministrator(Refused):
    """Only administrators may do this."""

    code = "not-an-administrator"


class LastAdministrator(Refused):
    """The change would leave the instance without an administrator."""

    code = "conflict"


class NotADeveloper(Refused):
    """Only developers whom an administrator has verified may do this."""

    code = "not-a-developer"


class InvalidApplication(Refused):
    """An OAuth application cannot be registered so."""

    code = "invalid-request"


class InvalidTag(Refused):
    """An access tag cannot be called so, or there is none of this name."""

    code = "invalid-request"


class TagInUse(Refused):
    """Something carries the access tag, or carried it."""

    code = "conflict"


class TagTaken(Refused):
    """There is an access tag of this name."""

    code = "conflict"
