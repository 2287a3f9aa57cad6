"""Commands for users, developers, access tags and tokens."""

import sys
from datetime import timedelta

import click

from gridapps.server.commands.terminal import call, user_named
from gridapps.server.instance import Unusable, prepare


@click.group()
def tag() -> None:
    """Access tags: create them, give them to users, take them back."""


@tag.command("create")
@click.argument("name")
@click.option("--description", default="", help="what it covers, for administrators")
def create_tag(name: str, description: str) -> None:
    """Create the access tag NAME."""
    prepare()
    from gridapps.access import operations

    call(operations.create_tag, by=None, name=name, description=description)
    click.echo(f"Access tag {name} created.")


@tag.command("give")
@click.argument("name")
@click.argument("usernames", nargs=-1, required=True)
def give_tag(name: str, usernames: tuple[str, ...]) -> None:
    """Give the access tag NAME to users."""
    prepare()
    from gridapps.access import operations

    call(operations.give_tag, by=None, name=name, users=[user_named(username) for username in usernames])
    click.echo(f"{', '.join(usernames)}: given {name}.")


@tag.command("take")
@click.argument("name")
@click.argument("usernames", nargs=-1, required=True)
def take_tag(name: str, usernames: tuple[str, ...]) -> None:
    """Take the access tag NAME from users. Tasks that they have queued with it no longer start."""
    prepare()
    from gridapps.access import operations

    call(operations.take_tag, by=None, name=name, users=[user_named(username) for username in usernames])
    click.echo(f"{', '.join(usernames)}: {name} taken back.")


@click.group()
def user() -> None:
    """Create and list users, set passwords, verify developers."""


@user.command("create")
@click.argument("username")
@click.option("--admin", is_flag=True, help="make the user an administrator of the instance")
@click.option("--password-stdin", is_flag=True, help="read a password for the browser from standard input")
def create_user(username: str, admin: bool, password_stdin: bool) -> None:
    """Create USERNAME. Without a password only tokens work."""
    prepare()
    from gridapps.access import operations

    password = sys.stdin.readline().rstrip("\n") if password_stdin else None
    call(operations.create_user, by=None, username=username, password=password, administrator=admin)
    click.echo(f"User {username} created.")


@user.command("password")
@click.argument("username")
@click.option(
    "--password-stdin", is_flag=True, help="read the password from standard input instead of asking"
)
def user_password(username: str, password_stdin: bool) -> None:
    """Set the password of USERNAME. It ends the user's sessions in browsers; tokens stay valid."""
    prepare()
    from gridapps.access import operations

    user = user_named(username)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = click.prompt("New password", hide_input=True, confirmation_prompt=True)
    call(operations.change_password, by=None, user=user, password=password)
    click.echo(f"The password of {username} is set.")


@user.command("list")
def list_users() -> None:
    """List users: name, roles, access tags, and the last login with a password."""
    prepare()
    from gridapps.access import queries

    for line in queries.listed():
        click.echo(line)


@user.command("verify")
@click.argument("username")
def verify_user(username: str) -> None:
    """Verify USERNAME as a developer, who may hold certificates and push images."""
    prepare()
    from gridapps.access import operations

    call(operations.verify_developer, user=user_named(username), by=None)
    click.echo(f"{username} is a verified developer.")


@click.command()
@click.argument("username")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="validity")
@click.option("--scope", "scopes", multiple=True, default=("api",), show_default=True, help="may be repeated")
def token(username: str, days: int, scopes: tuple[str, ...]) -> None:
    """Print an access token with which USERNAME can use the API.

    Scopes: `api` covers everything except `admin`, which the calls of administrators need. docs/api.md lists
    narrower scopes.
    """
    prepare()
    from gridapps.access import operations
    from gridapps.access.scopes import SCOPES

    if unknown := set(scopes) - SCOPES.keys():
        raise Unusable(f"There is no scope {min(unknown)!r}. Choose among {', '.join(SCOPES)}.")
    user = user_named(username)
    click.echo(operations.issue_token(by=None, user=user, lifetime=timedelta(days=days), scopes=scopes))
