"""Authentication: an OAuth bearer token with its scopes, or the browser's session with its CSRF token.

A session has all rights of its user, a token only those that its scopes cover.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf
from oauth2_provider.models import AccessToken, Application

from gridapps.access import scopes
from gridapps.access.models import User
from gridapps.api.errors import ApiError
from gridapps.audit import context, record

_SAFE = {"GET", "HEAD", "OPTIONS"}
ANY = ""  # the scope of calls that every token may use


class Bearer(HttpBearer):
    """`Authorization: Bearer ...`. An invalid header is an error, and no session is tried."""

    def __init__(self, *, read: str, write: str) -> None:
        """`read`: the scope for calls that read. `write`: the scope for calls that change something."""
        super().__init__()
        self._read = read
        self._write = write

    def needs(self, method: str) -> str:
        """The scope that a call of this method needs."""
        return self._read if method in _SAFE else self._write

    def __call__(self, request: HttpRequest) -> User | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise ApiError("unauthenticated", "The Authorization header must hold a Bearer token.")
        return self.authenticate(request, token.strip())

    def authenticate(self, request: HttpRequest, token: str) -> User:
        """The token's user, as an administrator only with the scope `admin`. Raises ApiError."""
        checksum = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found = (
            AccessToken.objects.select_related("user", "application__user")
            .filter(token_checksum=checksum)
            .first()
        )
        user = _user_of(found) if found and found.is_valid() else None
        covered = scopes.covered_by(found.scope.split()) if found else set()
        if user is None or not user.is_active or not covered:
            raise ApiError("unauthenticated", "The token is unknown, expired or revoked; log in again.")
        needed = self.needs(request.method or "")
        if needed not in covered | {ANY}:
            sentence = f"The token lacks the scope {needed!r} that this call needs."
            record.refused(
                by=user, subject=f"call:{request.path}", code="insufficient-scope", sentence=sentence
            )
            raise ApiError("insufficient-scope", sentence)
        context.add(user=user.pk)
        return user if scopes.ADMIN in covered else user.restricted()


class Session(APIKeyCookie):
    """The browser's session. Calls that change something need the CSRF token as well."""

    param_name = settings.SESSION_COOKIE_NAME

    def __call__(self, request: HttpRequest) -> User | None:
        user = request.user
        if not isinstance(user, User) or not user.is_authenticated:
            return None
        if request.content_type == "multipart/form-data":
            # The check below would parse the body as a form, and the call could not read it again.
            raise ApiError("unsupported-media-type", "The body must be application/json.")
        if request.method not in _SAFE and check_csrf(request) is not None:
            raise ApiError("csrf-failed", "The page is out of date: load it again, and then try again.")
        context.add(user=user.pk)
        return User.objects.get(pk=user.pk)

    def authenticate(self, request: HttpRequest, key: str | None) -> None:
        """Unused: the middleware has authenticated the session."""


def user_of(request: HttpRequest) -> User:
    """The user of an authenticated call."""
    user: User = request.auth  # type: ignore[attr-defined]
    return user


def _user_of(token: Any) -> User | None:
    """A token of the client credentials grant acts as the user who registered the application."""
    if token.user is not None:
        user: User = token.user
        return user
    application = token.application
    if application and application.authorization_grant_type == Application.GRANT_CLIENT_CREDENTIALS:
        owner: User | None = application.user
        return owner
    return None


def with_scope(read: str, write: str | None = None) -> list[Callable[[HttpRequest], User | None]]:
    """Authentication for a router: a scope to read, and another or the same one to change something."""
    return [Bearer(read=read, write=write or read), Session()]
