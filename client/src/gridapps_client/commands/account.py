"""`gridapps login`, `logout`, `whoami` and `developer`."""

from __future__ import annotations

import contextlib
import sys
import webbrowser
from pathlib import Path

import click

from gridapps_client import login as oauth
from gridapps_client.address import canonical
from gridapps_client.client import Client
from gridapps_client.commands.shared import Session, common
from gridapps_client.configuration import Instance
from gridapps_client.errors import GridAppsError, Unauthenticated
from gridapps_client.models import Developer
from gridapps_client.text import plain, size


@click.command()
@click.argument("address", metavar="URL")
@click.option(
    "--token", help="Use this token instead of a browser. Other users can see it in the list of processes."
)
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path),
    help="Trust this certificate authority (PEM file), such as the instance's own.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address of the page.")
@click.option("--device", is_flag=True, help="Show a code to enter in a browser on any machine.")
@click.option("--admin", "administer", is_flag=True, help="Also ask for the scope of administrators.")
@common
def login(
    session: Session,
    *,
    address: str,
    token: str | None,
    token_stdin: bool,
    ca: Path | None,
    no_browser: bool,
    device: bool,
    administer: bool,
) -> None:
    """Log in to the instance at URL and use it from now on.

    Over SSH, where no browser runs on this machine: --device.
    """
    url = canonical(address)
    known = session.configuration.stored(url)
    authority = str(ca) if ca else (known.ca if known else None)
    if token_stdin:
        token = _read_token()
    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise GridAppsError("The token is empty or contains invalid characters.", code="usage")
    if token is not None:
        given = oauth.Tokens(token=token, refresh_token=None)
    else:
        # Report an unreachable or untrusted instance before the browser opens its page.
        with Client(url, ca=authority) as client, contextlib.suppress(Unauthenticated):
            client.me()
        given = _authorised(
            session, url, ca=authority, device=device, no_browser=no_browser, administer=administer
        )
    with Client(url, token=given.token, ca=authority) as client:
        me = client.me()
    if ca:
        authority = str(
            session.configuration.keep_authority(url, ca.read_text(encoding="ascii", errors="replace"))
        )
    session.configuration.save(
        Instance(
            url=url,
            token=given.token,
            refresh_token=given.refresh_token,
            ca=authority,
            certificate=known.certificate if known else None,
        ),
        default=True,
    )
    session.result({"url": url, "user": me}, f"Logged in to {url} as {plain(me.username)}.")


@click.command()
@common
def logout(session: Session) -> None:
    """Revoke the token and this machine's client certificate, and forget the instance."""
    url = session.client.url
    stored = session.configuration.stored(url)
    if stored and stored.certificate:
        try:
            session.client.revoke_certificate(stored.certificate)
        except GridAppsError as error:
            session.tell(f"The certificate {stored.certificate} stays valid, because: {error}")
    if stored and stored.refresh_token:
        oauth.revoke(url, ca=stored.ca, token=stored.refresh_token)
    elif stored:
        # Only the client that a token was issued to may revoke it, and this one was made on the server.
        session.tell("The token was made by an administrator and stays valid until it expires.")
    session.configuration.forget(url)
    session.result({"url": url}, f"Logged out of {url}.")


@click.command()
@common
def whoami(session: Session) -> None:
    """Show your user name, roles and access tags."""
    me = session.client.me()
    roles = [
        word
        for word, held in (("administrator", me.administrator), ("developer", me.developer == "verified"))
        if held
    ]
    session.result(
        {"url": session.client.url, "user": me},
        f"{plain(me.username)} at {session.client.url}" + (f" ({', '.join(roles)})" if roles else ""),
        *([f"access tags: {plain(', '.join(me.access_tags))}"] if me.access_tags else []),
    )


@click.group()
def developer() -> None:
    """Become a developer, who may own Apps and push images."""


@developer.command("request")
@click.option("--statement", prompt="What do you want to develop?", help="Tells administrators your purpose.")
@common
def developer_request(session: Session, statement: str) -> None:
    """Ask to become a developer; an administrator decides."""
    state = session.client.request_developer(statement=statement)
    session.result({"developer": state}, _described(state))


@developer.command("show")
@common
def developer_show(session: Session) -> None:
    """Show the state of your request, and the disk that your images use."""
    state = session.client.developer()
    session.result({"developer": state}, _described(state), *_images(state))


def _read_token() -> str:
    """The first line of standard input; "" if it is not text."""
    try:
        return sys.stdin.readline().strip()
    except UnicodeDecodeError:
        return ""


def _authorised(
    session: Session, url: str, *, ca: str | None, device: bool, no_browser: bool, administer: bool
) -> oauth.Tokens:
    """The tokens that the user grants in a browser, on this machine or on another one."""
    if device:
        return oauth.on_device(
            url,
            ca=ca,
            show=lambda page, code: session.tell(f"Open {page} in a browser and enter the code {code}"),
            administer=administer,
        )
    return oauth.in_browser(
        url,
        ca=ca,
        show=lambda page: _show(session, page, no_browser=no_browser),
        administer=administer,
    )


def _described(state: Developer) -> str:
    return {
        "none": "You are not a developer; ask with: gridapps developer request",
        "requested": "Your request is waiting for an administrator.",
        "verified": "You are a developer.",
        "refused": "Your request was refused.",
    }.get(state.state, plain(state.state))


def _images(state: Developer) -> list[str]:
    if state.state != "verified":
        return []
    limit = f" of {size(state.images_limit)}" if state.images_limit else ""
    return [f"Your images use {size(state.images_used)}{limit}."]


def _show(session: Session, page: str, *, no_browser: bool) -> None:
    session.tell("Log in on this page; the command then continues. (Without a browser here: --device)")
    session.tell(page)
    if not no_browser:
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(page)
