"""Reads: what is known of a user."""

from gridapps.access.errors import NotADeveloper
from gridapps.access.models import Developer, User


def developer_of(user: User) -> Developer | None:
    """The user's request to be a developer, if there ever was one."""
    return Developer.objects.filter(user=user).first()


def is_developer(user: User) -> bool:
    """Whether the user is active and verified as a developer at this moment."""
    return Developer.objects.filter(user=user, user__is_active=True, state=Developer.State.VERIFIED).exists()


def require_developer(user: User) -> None:
    """Raise NotADeveloper unless the user is a verified developer."""
    if not is_developer(user):
        raise NotADeveloper(
            "Only verified developers may do this. Ask to be one in your application settings, "
            "and wait until an administrator has verified you."
        )
