"""Which roles a user has: owner, administrator, developer.

The `queries` of each package decide which rows a user sees (`visible_to`), changes (`owned_by`) and runs
(`runnable_by`). `pushes.permits` decides what a certificate allows.
"""

from typing import Protocol

from gridapps.access.errors import NotADeveloper, NotAnAdministrator
from gridapps.access.models import Developer, User


class Owned(Protocol):
    """An App, a run, an export: what a user made."""

    @property
    def owner_id(self) -> int:
        """The user's key."""


def owns(user: User, thing: Owned) -> bool:
    """Whether the thing is the user's own."""
    return thing.owner_id == user.pk


def is_administrator(user: User) -> bool:
    """Whether the user is active and administers the instance."""
    return user.is_administrator


def require_administrator(user: User, sentence: str = "Only administrators may do this.") -> None:
    """Raise NotAnAdministrator. Call it before anything is looked up, so that others learn nothing."""
    if not is_administrator(user):
        raise NotAnAdministrator(sentence)


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
