"""Writes: users, developers, access tags, access tokens."""

import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Protocol

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, RefreshToken, set_token_value

from gridapps.access.errors import (
    InvalidTag,
    InvalidUser,
    TagInUse,
    TagTaken,
    UsernameTaken,
)
from gridapps.access.models import TAG_NAME, AccessTag, Developer, PersonalToken, User
from gridapps.access.permissions import require_administrator
from gridapps.access.scopes import DEFAULT
from gridapps.audit import record

MAX_TAG = 63  # characters


class Decision(Protocol):
    """The type of `verify_developer` and `refuse_developer`."""

    def __call__(self, *, user: User, by: User | None) -> Developer: ...


def create_user(
    *, by: User | None, username: str, password: str | None = None, administrator: bool = False
) -> User:
    """Create a user. Without a password only tokens work. `by` None is the operator of the instance.

    Raises InvalidUser, UsernameTaken.
    """
    user = User(username=username, is_staff=administrator, is_superuser=administrator)
    if password is None:
        user.set_unusable_password()
    else:
        _set_password(user, password)
    try:
        user.full_clean(validate_unique=False)
    except ValidationError as error:
        faults = [(f"/{name}", text) for name, texts in error.message_dict.items() for text in texts]
        text = " ".join(text for _, text in faults)
        raise InvalidUser(f"The user {username!r} cannot be created: {text}", faults) from None
    try:
        with transaction.atomic():
            user.save(force_insert=True)
            record.user_created(by=by, user=user, administrator=administrator)
    except IntegrityError:
        raise UsernameTaken(f"There is a user {username!r} already.") from None
    return user


def change_password(*, by: User | None, user: User, password: str) -> None:
    """Set a password. It ends the user's other sessions in browsers; tokens stay valid.

    `by` None is the operator of the instance. Raises InvalidUser.
    """
    if not user.is_active:
        raise InvalidUser(f"{user} is not active, so a password would not work.", [])
    with transaction.atomic():
        fresh = User.objects.select_for_update().get(pk=user.pk)
        _set_password(fresh, password)
        fresh.save(update_fields=["password"])
        record.user_password_changed(by=by, user=user)
    user.password = fresh.password


def request_developer(*, user: User, statement: str) -> tuple[Developer, bool]:
    """Ask to be a developer; an administrator decides. Returns the request, and whether it is new.

    A second request replaces the statement of an undecided one, starts over after a refusal, and changes
    nothing once the user is verified.
    """
    with transaction.atomic():
        developer, new = Developer.objects.select_for_update().get_or_create(
            user=user, defaults={"statement": statement}
        )
        if new:
            record.developer_requested(user=user)
        if new or developer.state == Developer.State.VERIFIED:
            return developer, new
        again = developer.state == Developer.State.REFUSED
        developer.statement = statement
        if again:
            developer.state = Developer.State.REQUESTED
            developer.requested_at = timezone.now()
            developer.decided_at = developer.decided_by = None
            record.developer_requested(user=user)
        developer.save()
        return developer, again


def verify_developer(*, user: User, by: User | None) -> Developer:
    """Verify a user as a developer, also one who never asked. `by` None is the operator of the instance.

    Raises NotAnAdministrator.
    """
    return _decide(user=user, by=by, state=Developer.State.VERIFIED)


def refuse_developer(*, user: User, by: User | None) -> Developer:
    """Refuse a user as a developer, or withdraw a verification: certificates stop working at once.

    Raises NotAnAdministrator.
    """
    return _decide(user=user, by=by, state=Developer.State.REFUSED)


def issue_token(
    *, by: User | None, user: User, lifetime: timedelta, scopes: Sequence[str] = DEFAULT, name: str = ""
) -> str:
    """Issue a bearer token for the API. Only its hash is stored, so the caller must hand it over.

    `name`: of a personal token, for its user.
    """
    token = secrets.token_urlsafe(32)
    row = AccessToken(user=user, scope=" ".join(scopes), expires=timezone.now() + lifetime)
    set_token_value(row, token)  # only its hash is stored
    with transaction.atomic():
        row.save()
        if name:
            PersonalToken.objects.create(token=row, name=name)
        record.token_issued(by=by, user=user, scopes=list(scopes), expires=row.expires)
    return token


def create_tag(*, by: User | None, name: str, description: str = "") -> AccessTag:
    """Create an access tag. `by` None is the operator of the instance. Raises InvalidTag, TagTaken."""
    tag = AccessTag(name=name, description=description)
    if len(name) > MAX_TAG or not re.fullmatch(TAG_NAME, name):
        raise InvalidTag(
            f"{name[:100]!r} cannot be an access tag: 1 to {MAX_TAG} of a-z, 0-9 and -, not beginning with -."
        )
    try:
        with transaction.atomic():
            tag.save(force_insert=True)
            record.tag_created(by=by, tag=name)
    except IntegrityError:
        raise TagTaken(f"There is an access tag {name!r} already.") from None
    return tag


def give_tag(*, by: User | None, name: str, users: Iterable[User]) -> None:
    """Give an access tag to users. `by` None is the operator of the instance. Raises InvalidTag."""
    tag = _tag(name)
    with transaction.atomic():
        new = [user for user in users if not tag.holders.contains(user)]
        tag.holders.add(*new)
        for user in new:
            record.tag_given(by=by, tag=name, user=user)


def take_tag(*, by: User | None, name: str, users: Iterable[User]) -> None:
    """Take an access tag from users: tasks that they queued with it no longer start.

    `by` None is the operator of the instance. Raises InvalidTag.
    """
    tag = _tag(name)
    with transaction.atomic():
        old = [user for user in users if tag.holders.contains(user)]
        tag.holders.remove(*old)
        for user in old:
            record.tag_taken(by=by, tag=name, user=user)


def delete_tag(*, by: User | None, name: str) -> None:
    """Delete an access tag. One that a share uses or used stays, because the share refers to it.

    `by` None is the operator of the instance. Raises InvalidTag, TagInUse.
    """
    tag = _tag(name)
    try:
        with transaction.atomic():
            record.tag_deleted(by=by, tag=name, users=list(tag.holders.order_by("pk")))
            tag.delete()
    except ProtectedError:
        raise TagInUse(
            f"The access tag {name} stays, because Apps are or were shared with it. Take it from its holders."
        ) from None


def retire_user(*, user: User, by: User) -> None:
    """Deactivate a user and delete the personal data. Runs, Apps and shares stay, and so does the row.

    Raises NotAnAdministrator, LastAdministrator.
    """
    require_administrator(by, "Only administrators retire users.")
    with transaction.atomic():
        for credentials in (RefreshToken, AccessToken, Application):
            credentials.objects.filter(user=user).delete()
        record.user_retired(by=by, user=user, tags=[tag.name for tag in user.access_tags.all()])
        user.access_tags.clear()
        Developer.objects.filter(user=user).update(
            state=Developer.State.REFUSED, statement="", decided_at=timezone.now(), decided_by=by
        )
        user.username = f"retired-{user.pk}"
        user.first_name = user.last_name = user.email = ""
        user.is_active = user.is_staff = user.is_superuser = False
        user.set_unusable_password()
        user.save()


def _set_password(user: User, password: str) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        text = " ".join(error.messages)
        raise InvalidUser(f"The password is not accepted: {text}", [("/password", text)]) from None
    user.set_password(password)


def _tag(name: str) -> AccessTag:
    found = AccessTag.objects.filter(name=name).first()
    if found is None:
        raise InvalidTag(f"There is no access tag {name[:100]!r}.")
    return found


def _decide(*, user: User, by: User | None, state: Developer.State) -> Developer:
    if by is not None:
        require_administrator(by, "Only administrators decide who is a developer.")
    verified = state == Developer.State.VERIFIED
    with transaction.atomic():
        developer, _ = Developer.objects.update_or_create(
            user=user, defaults={"state": state, "decided_at": timezone.now(), "decided_by": by}
        )
        (record.developer_verified if verified else record.developer_refused)(by=by, user=user)
    return developer
