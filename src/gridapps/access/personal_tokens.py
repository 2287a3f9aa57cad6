"""Personal tokens: bearer tokens that users make for their own programs, and revoke."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from oauth2_provider.models import AccessToken

from gridapps.access import permissions
from gridapps.access.errors import InvalidToken
from gridapps.access.models import User
from gridapps.access.names import is_line
from gridapps.access.operations import issue_token
from gridapps.access.scopes import ADMIN, SCOPES
from gridapps.audit import record

MAX_TOKENS = 50
MAX_DAYS = 366
MAX_NAME = 100  # characters


def held_by(user: User) -> "QuerySet[Any]":
    """The user's valid tokens that no application got: those made here, and those the operator made."""
    found: QuerySet[Any] = AccessToken.objects.filter(
        user=user, application__isnull=True, expires__gt=timezone.now()
    )
    return found.select_related("personal").order_by("-created", "-pk")


def create(*, by: User, name: str, days: int, scopes: Sequence[str]) -> str:
    """Create a token, which is known only now. Raises InvalidToken."""
    name = name.strip()
    if not is_line(name, longest=MAX_NAME):
        raise InvalidToken(
            f"A name is one line of 1 to {MAX_NAME} characters.", [("/name", "Choose a name.")]
        )
    if not 1 <= days <= MAX_DAYS:
        raise InvalidToken(f"A token is valid for 1 to {MAX_DAYS} days.", [("/days", "Choose fewer days.")])
    if not scopes or not set(scopes) <= SCOPES.keys():
        raise InvalidToken(f"Choose at least one of the scopes {', '.join(SCOPES)}.")
    if ADMIN in scopes and not permissions.is_administrator(by):
        raise InvalidToken("Only administrators make tokens that administer the instance.")
    if held_by(by).count() >= MAX_TOKENS:
        raise InvalidToken(f"You have {MAX_TOKENS} tokens; revoke one first.")
    return issue_token(by=by, user=by, lifetime=timedelta(days=days), scopes=scopes, name=name)


def revoke(*, by: User, pk: int) -> bool:
    """Revoke a token of the user at once. False if there is none."""
    with transaction.atomic():
        found = held_by(by).filter(pk=pk).select_for_update(of=("self",)).first()
        if found is None:
            return False
        record.token_revoked(user=by, scopes=found.scope.split())
        found.delete()
    return True
