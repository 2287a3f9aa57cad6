"""Reads: what is known of a user."""

from collections.abc import Iterator

from gridapps.access.models import Developer, User


def developer_of(user: User) -> Developer | None:
    """The user's request to be a developer, if there ever was one."""
    return Developer.objects.filter(user=user).first()


def listed() -> Iterator[str]:
    """A line for each user, in the order of names: name, roles, access tags, last login."""
    users = User.objects.select_related("developer").prefetch_related("access_tags").order_by("username")
    for user in users.iterator(chunk_size=500):
        developer: Developer | None = getattr(user, "developer", None)
        verified = developer is not None and developer.state == Developer.State.VERIFIED
        roles = [
            name
            for name, held in (
                ("administrator", user.is_superuser),
                ("developer", verified),
                ("not active", not user.is_active),
                ("no password", not user.has_usable_password()),
            )
            if held
        ]
        tags = ",".join(sorted(tag.name for tag in user.access_tags.all()))
        seen = f"{user.last_login:%Y-%m-%d}" if user.last_login else "never"
        yield f"{user.username}  [{', '.join(roles)}]  tags: {tags or '-'}  last login: {seen}"
