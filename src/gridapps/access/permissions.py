"""Who may do what, apart from what a user owns or has been given."""

from gridapps.access.errors import NotADeveloper, NotAnAdministrator
from gridapps.access.models import Developer, User


def is_administrator(user: User) -> bool:
    """Whether the user is active and administers the instance."""
    return user.is_active and user.is_superuser


def require_administrator(user: User, sentence: str = "Only administrators may do this.") -> None:
    """Raise NotAnAdministrator, before anything is looked up: others learn nothing of what there is."""
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
