"""Records logins and tokens in the audit, from the signals of the framework."""

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest
from oauth2_provider.signals import app_authorized

from gridapps.access.models import User
from gridapps.audit import record


@receiver(user_logged_in)
def logged_in(user: User, **_: object) -> None:
    """A user logged in with a password."""
    record.user_logged_in(user=user)


@receiver(user_login_failed)
def login_failed(credentials: dict[str, Any], **_: object) -> None:
    """A password was wrong. Unknown names are not recorded: they may be passwords in the wrong field."""
    user = User.objects.filter(username=credentials.get("username", "")).first()
    if user is not None:
        record.user_login_failed(user=user)


@receiver(app_authorized)
def authorized(request: HttpRequest, token: Any, **_: object) -> None:  # noqa: ARG001 - the signal names it
    """An application got a token, with a code, a refresh token or its own credentials."""
    user = token.user or token.application.user
    record.token_issued(
        by=user,
        user=user,
        scopes=token.scope.split(),
        expires=token.expires,
        application=token.application_id,
    )
