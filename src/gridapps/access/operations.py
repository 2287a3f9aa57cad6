"""Writes: users, developers, access tokens."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, set_token_value

from gridapps.access.errors import InvalidUser, NotAnAdministrator, UsernameTaken
from gridapps.access.models import Developer, User
from gridapps.access.scopes import DEFAULT


class Decision(Protocol):
    """Verifying and refusing have one form."""

    def __call__(self, *, user: User, by: User | None) -> Developer: ...


def create_user(*, username: str, password: str | None = None, administrator: bool = False) -> User:
    """Create a user. Without a password only tokens work. Raises InvalidUser, UsernameTaken."""
    user = User(username=username, is_staff=administrator, is_superuser=administrator)
    if password is None:
        user.set_unusable_password()
    else:
        try:
            validate_password(password, user)
        except ValidationError as error:
            text = " ".join(error.messages)
            raise InvalidUser(f"The password cannot be taken: {text}", [("/password", text)]) from None
        user.set_password(password)
    try:
        user.full_clean(validate_unique=False)
    except ValidationError as error:
        faults = [(f"/{name}", text) for name, texts in error.message_dict.items() for text in texts]
        text = " ".join(text for _, text in faults)
        raise InvalidUser(f"The user {username!r} cannot be created: {text}", faults) from None
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        raise UsernameTaken(f"There is a user {username!r} already.") from None
    return user


def request_developer(*, user: User, statement: str) -> tuple[Developer, bool]:
    """Ask to be a developer; an administrator decides. Returns the request, and whether it is new.

    Asking again replaces the statement while nobody has decided, starts over after a refusal, and changes
    nothing once verified.
    """
    with transaction.atomic():
        developer, new = Developer.objects.select_for_update().get_or_create(
            user=user, defaults={"statement": statement}
        )
        if new or developer.state == Developer.State.VERIFIED:
            return developer, new
        again = developer.state == Developer.State.REFUSED
        developer.statement = statement
        if again:
            developer.state = Developer.State.REQUESTED
            developer.requested_at = timezone.now()
            developer.decided_at = developer.decided_by = None
        developer.save()
        return developer, again


def verify_developer(*, user: User, by: User | None) -> Developer:
    """Verify a user as a developer, also one who never asked. `by` None is the operator of the instance.

    Raises NotAnAdministrator.
    """
    return _decide(user=user, by=by, state=Developer.State.VERIFIED)


def refuse_developer(*, user: User, by: User | None) -> Developer:
    """Refuse a user as a developer, or take a verification back: the certificates stop working at once.

    Raises NotAnAdministrator.
    """
    return _decide(user=user, by=by, state=Developer.State.REFUSED)


def issue_token(*, user: User, lifetime: timedelta, scopes: Sequence[str] = DEFAULT) -> str:
    """A bearer token with which the user can call the API. It is shown once: the caller hands it over."""
    token = secrets.token_urlsafe(32)
    row = AccessToken(user=user, scope=" ".join(scopes), expires=timezone.now() + lifetime)
    set_token_value(row, token)  # only its hash is stored
    row.save()
    return token


def _decide(*, user: User, by: User | None, state: Developer.State) -> Developer:
    if by is not None and not (by.is_active and by.is_superuser):
        raise NotAnAdministrator("Only administrators decide who is a developer.")
    developer, _ = Developer.objects.update_or_create(
        user=user, defaults={"state": state, "decided_at": timezone.now(), "decided_by": by}
    )
    return developer
