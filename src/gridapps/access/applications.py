"""OAuth applications of users: programs that ask for authorization, and machines."""

import re
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction
from django.db.models import QuerySet
from oauth2_provider.generators import generate_client_secret
from oauth2_provider.models import Application

from gridapps.access import permissions
from gridapps.access.errors import InvalidApplication
from gridapps.access.models import ApplicationScopes, User
from gridapps.access.names import is_line
from gridapps.access.scopes import ADMIN, DEFAULT, SCOPES
from gridapps.audit import record

MAX_APPLICATIONS = 50
MAX_NAME = 100  # characters
NAME_RULE = f"A name is one line of 1 to {MAX_NAME} characters."
MAX_REDIRECTS = 10
# Host and port, without characters that have a meaning in a header.
PLACE = r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"


class Kind(StrEnum):
    """How an application gets its tokens."""

    PUBLIC = "public"  # asks for authorization, and cannot keep a secret: on a desktop, in a browser
    CONFIDENTIAL = "confidential"  # asks for authorization, and keeps a secret on a server
    MACHINE = "machine"  # acts as the user who registered it


def is_name(name: str) -> bool:
    """Whether an application may have this name."""
    return is_line(name, longest=MAX_NAME)


def registered_by(user: User) -> "QuerySet[Any]":
    """The user's own applications."""
    found: QuerySet[Any] = Application.objects.filter(user=user).order_by("name", "pk")
    return found


def register(
    *, by: User, name: str, kind: Kind, redirect_uris: str = "", scopes: Sequence[str] = DEFAULT
) -> tuple[Application, str | None]:
    """Register an application. Returns it, and its secret, which is known only now. Public ones have none.

    `redirect_uris`: separated by white space. `scopes`: the most that it may ask for. Raises
    InvalidApplication.
    """
    name = name.strip()
    if not is_name(name):
        raise InvalidApplication(NAME_RULE)
    if registered_by(by).count() >= MAX_APPLICATIONS:
        raise InvalidApplication(f"You have {MAX_APPLICATIONS} applications; delete one first.")
    _check_scopes(by, scopes)
    addresses = redirect_uris.split()
    if kind is not Kind.MACHINE:
        _check_redirects(addresses)
    secret = None if kind is Kind.PUBLIC else str(generate_client_secret())
    with transaction.atomic():
        application = _create(by, name, kind, addresses, secret)
        ApplicationScopes.objects.create(application=application, scopes=list(scopes))
        record.application_registered(
            by=by, application=application.pk, application_kind=kind.value, scopes=list(scopes)
        )
    return application, secret


def delete(*, by: User, pk: int) -> bool:
    """Delete an application of the user, with its tokens. False if there is none."""
    with transaction.atomic():
        deleted, _ = registered_by(by).filter(pk=pk).delete()
        if deleted:
            record.application_deleted(by=by, application=pk)
    return deleted > 0


def _create(by: User, name: str, kind: Kind, addresses: list[str], secret: str | None) -> Application:
    return Application.objects.create(
        user=by,
        name=name,
        client_type=Application.CLIENT_PUBLIC if kind is Kind.PUBLIC else Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=(
            Application.GRANT_CLIENT_CREDENTIALS
            if kind is Kind.MACHINE
            else Application.GRANT_AUTHORIZATION_CODE
        ),
        redirect_uris="" if kind is Kind.MACHINE else " ".join(addresses),
        client_secret=secret or str(generate_client_secret()),
    )


def _check_scopes(by: User, scopes: Sequence[str]) -> None:
    if not scopes or not set(scopes) <= SCOPES.keys():
        raise InvalidApplication(f"Choose at least one of the scopes {', '.join(SCOPES)}.")
    if ADMIN in scopes and not permissions.is_administrator(by):
        raise InvalidApplication("Only administrators register applications that administer the instance.")


def _check_redirects(addresses: list[str]) -> None:
    """Codes must not be readable in transit, so require TLS or the user's own machine."""
    if not 1 <= len(addresses) <= MAX_REDIRECTS:
        raise InvalidApplication(f"1 to {MAX_REDIRECTS} redirect addresses are needed.")
    for address in addresses:
        try:
            parts = urlsplit(address)
            fine = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
            fine = fine and bool(re.fullmatch(PLACE, parts.netloc)) and not parts.fragment
            _ = parts.port
        except ValueError:
            fine = False
        if not fine or "*" in address or len(address) > 500:
            raise InvalidApplication(
                f"{address[:100]!r} cannot be a redirect address: https://..., or http://127.0.0.1/... for a "
                "program on the user's own machine; no fragment, no user name."
            )


def _is_loopback(host: str | None) -> bool:
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
