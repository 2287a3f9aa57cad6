"""Reads: what is known of a user."""

from gridapps.access.models import Developer, User


def developer_of(user: User) -> Developer | None:
    """The user's request to be a developer, if there ever was one."""
    return Developer.objects.filter(user=user).first()
