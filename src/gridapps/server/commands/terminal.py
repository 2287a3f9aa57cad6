"""What several commands share: how they print, how refusals end them, how users are named."""

from typing import Any

import click

from gridapps.server.instance import Unusable


def say(text: str) -> None:
    """Print a sentence to standard error."""
    click.echo(text, err=True)


def call(operation: Any, **arguments: Any) -> Any:
    """Call an operation. If it is refused, print why and end with exit status 1."""
    from gridapps.access.refusals import Refused
    from gridapps.storage.interface import StorageUnavailable

    try:
        return operation(**arguments)
    except (Refused, StorageUnavailable, OSError) as error:
        raise Unusable(str(error)) from None


def user_named(username: str) -> Any:
    """The user, or Unusable."""
    from gridapps.access.models import User

    found = User.objects.filter(username=username).first()
    if found is None:
        raise Unusable(f"There is no user {username!r}. Create one: gridapps-server user create {username}")
    return found
