"""Users, developers and tokens."""

import hashlib
from datetime import timedelta

import pytest
from oauth2_provider.models import AccessToken

from gridapps.access import operations, permissions
from gridapps.access.errors import InvalidUser, NotADeveloper, NotAnAdministrator, UsernameTaken
from gridapps.access.models import Developer
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db


def test_a_user_without_password_cannot_log_in_by_password() -> None:
    user = operations.create_user(by=None, username="ann")
    assert not user.has_usable_password()
    assert not user.is_superuser


def test_an_administrator_may_use_the_administration() -> None:
    user = operations.create_user(
        by=None, username="root", password="correct horse battery", administrator=True
    )
    assert user.is_superuser
    assert user.is_staff
    assert user.check_password("correct horse battery")


def test_a_username_is_taken_once() -> None:
    operations.create_user(by=None, username="ann")
    with pytest.raises(UsernameTaken, match="'ann'"):
        operations.create_user(by=None, username="ann")


@pytest.mark.parametrize("username", ["", "a b", "a/b", "x" * 151, "a\x00b"])
def test_bad_usernames_are_refused(username: str) -> None:
    with pytest.raises(InvalidUser) as raised:
        operations.create_user(by=None, username=username)
    assert raised.value.fields[0][0] == "/username"


def test_weak_passwords_are_refused() -> None:
    with pytest.raises(InvalidUser, match="too short"):
        operations.create_user(by=None, username="ann", password="abc")


def test_a_request_becomes_a_verified_developer_and_can_be_taken_back(cast: Cast) -> None:
    developer, new = operations.request_developer(user=cast.analyst, statement="roads")
    assert new
    assert developer.state == Developer.State.REQUESTED
    with pytest.raises(NotADeveloper):
        permissions.require_developer(cast.analyst)
    operations.verify_developer(user=cast.analyst, by=cast.administrator)
    permissions.require_developer(cast.analyst)
    operations.refuse_developer(user=cast.analyst, by=cast.administrator)
    assert not permissions.is_developer(cast.analyst)


def test_asking_again_changes_the_statement_only_while_nobody_has_decided(cast: Cast) -> None:
    operations.request_developer(user=cast.analyst, statement="one")
    developer, new = operations.request_developer(user=cast.analyst, statement="two")
    assert (developer.statement, new) == ("two", False)
    operations.verify_developer(user=cast.analyst, by=None)
    developer, new = operations.request_developer(user=cast.analyst, statement="three")
    assert (developer.statement, developer.state, new) == ("two", "verified", False)


def test_a_refused_developer_may_ask_again(cast: Cast) -> None:
    operations.refuse_developer(user=cast.analyst, by=cast.administrator)
    developer, new = operations.request_developer(user=cast.analyst, statement="please")
    assert (developer.state, developer.decided_at, new) == ("requested", None, True)


def test_only_administrators_decide(cast: Cast) -> None:
    with pytest.raises(NotAnAdministrator):
        operations.verify_developer(user=cast.analyst, by=cast.developer)
    assert not permissions.is_developer(cast.analyst)


def test_a_disabled_user_is_no_developer(cast: Cast) -> None:
    cast.developer.is_active = False
    cast.developer.save()
    assert not permissions.is_developer(cast.developer)


def test_a_token_has_the_scope_and_lifetime_it_was_issued_for(cast: Cast) -> None:
    secret = operations.issue_token(by=None, user=cast.analyst, lifetime=timedelta(hours=1))
    token = AccessToken.objects.get(user=cast.analyst)
    assert token.token_checksum == hashlib.sha256(secret.encode()).hexdigest()
    assert token.token == "", "only the hash is stored"
    assert token.is_valid(["api"])
    token.expires -= timedelta(hours=1)
    assert not token.is_valid(["api"])
