"""Errors of requests about users and developers. Plain Python."""

from gridapps.access.refusals import Refused


class InvalidUser(Refused):
    """The name or the password is invalid. `fields` holds pairs of JSON pointer and sentence."""

    code = "invalid-request"


class UsernameTaken(Refused):
    """Another user has this name."""

    code = "conflict"


class NotAnAdministrator(Refused):
    """Only administrators may do this."""

    code = "not-an-administrator"


class LastAdministrator(Refused):
    """The user is the only administrator of the instance."""

    code = "conflict"


class NotADeveloper(Refused):
    """Only developers whom an administrator has verified may do this."""

    code = "not-a-developer"


class InvalidApplication(Refused):
    """The registration of an OAuth application is invalid."""

    code = "invalid-request"


class InvalidToken(Refused):
    """The name, the scopes or the lifetime of a personal token is invalid, or the user has too many."""

    code = "invalid-request"


class UnknownCode(Refused):
    """No login waits for this code: it is wrong, expired or decided. Which of these is not said."""

    code = "not-found"


class TooManyCodes(Refused):
    """The user has entered too many wrong codes, or too many logins wait."""

    code = "too-many-guesses"


class InvalidTag(Refused):
    """The name of the access tag is invalid, or there is no such tag."""

    code = "invalid-request"


class TagInUse(Refused):
    """A share uses or used the access tag."""

    code = "conflict"


class TagTaken(Refused):
    """There is an access tag of this name."""

    code = "conflict"
