"""Issued secrets are not in the database: a reader of it can impersonate nobody."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client, override_settings
from oauth2_provider.models import AccessToken, Application, Grant, RefreshToken

from gridapps.access import applications, operations
from gridapps.access.applications import Kind
from gridapps.access.errors import InvalidUser
from gridapps.access.models import SpentCode
from gridapps.access.sessions import SessionStore, stored
from gridapps.hooks import operations as hooks
from gridapps.hooks import sealing
from gridapps.hooks.models import Hook
from tests.fixtures.cast import Cast
from tests.web.test_oauth import HEADERS, allow, exchange, question, status_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(cast: Cast) -> Client:
    browser = Client(headers=HEADERS)
    browser.force_login(cast.analyst)
    return browser


def everything() -> str:
    """All values of all tables."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            found += [str(value) for row in cursor.fetchall() for value in row]
    return "\n".join(found)


def test_no_secret_that_was_given_out_is_in_the_database(client: Client, cast: Cast) -> None:
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    code = allow(client, question())["code"][0]
    secrets = {"session": cookie, "code": code}
    assert code not in everything()
    tokens = exchange(code).json()
    secrets |= {"access token": tokens["access_token"], "refresh token": tokens["refresh_token"]}
    secrets["personal token"] = operations.issue_token(
        by=None, user=cast.analyst, lifetime=timedelta(days=1), scopes=["api"]
    )
    application, secret = applications.register(by=cast.analyst, name="a", kind=Kind.MACHINE)
    assert secret is not None
    secrets["client secret"] = secret
    secrets["hook secret"] = hooks.create(
        by=cast.analyst, target="https://example.org/x", events=["run.complete"]
    ).secret
    there = everything()
    assert cast.analyst.username in there
    assert {name for name, value in secrets.items() if value in there} == set()
    assert (AccessToken.objects.count(), RefreshToken.objects.count()) == (2, 1)
    assert application.pk


def test_a_key_of_the_database_is_no_cookie(client: Client) -> None:
    (row,) = Session.objects.all()
    thief = Client(headers=HEADERS)
    thief.cookies[settings.SESSION_COOKIE_NAME] = row.session_key
    assert thief.get("/").status_code == 302
    assert client.get("/").status_code == 200


def test_a_session_lives_as_before(client: Client) -> None:
    first = client.session.session_key
    assert first is not None
    assert SessionStore().exists(first)
    assert not SessionStore().exists(stored(first))
    session = client.session
    session["a"] = "b"
    session.save()
    assert SessionStore(first)["a"] == "b"
    session.cycle_key()
    assert not SessionStore().exists(first)
    client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key or ""
    assert client.get("/").status_code == 200
    client.post("/logout")
    assert Session.objects.count() == 0


async def _asynchronously() -> tuple[bool, object, bool]:
    session = SessionStore()
    await session.aset("a", "b")
    await session.asave()
    key = session.session_key or ""
    found = await SessionStore(key).aget("a")
    there = await session.aexists(key)
    await session.adelete()
    return there, found, await session.aexists(key)


@pytest.mark.django_db(transaction=True)
def test_a_session_lives_asynchronously_too() -> None:
    from asgiref.sync import async_to_sync

    assert async_to_sync(_asynchronously)() == (True, "b", False)


def test_a_code_that_is_used_again_revokes_its_tokens(client: Client) -> None:
    code = allow(client, question())["code"][0]
    first = exchange(code).json()
    assert status_of(first["access_token"]) == 200
    other = exchange(allow(client, question())["code"][0]).json()
    assert exchange(code).status_code == 400
    assert status_of(first["access_token"]) == 401
    renewed = Client(headers=HEADERS).post(
        "/api/token",
        {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": "gridapps-cli"},
    )
    assert renewed.status_code == 400
    assert status_of(other["access_token"]) == 200


def test_a_code_that_is_used_again_revokes_renewed_tokens(client: Client) -> None:
    code = allow(client, question())["code"][0]
    first = exchange(code).json()
    form = {
        "grant_type": "refresh_token",
        "refresh_token": first["refresh_token"],
        "client_id": "gridapps-cli",
    }
    renewed = Client(headers=HEADERS).post("/api/token", form).json()
    assert status_of(renewed["access_token"]) == 200
    assert exchange(code).status_code == 400
    assert status_of(renewed["access_token"]) == 401


def test_another_client_revokes_nothing_with_a_code(client: Client, cast: Cast) -> None:
    code = allow(client, question())["code"][0]
    first = exchange(code).json()
    other, _ = applications.register(
        by=cast.developer, name="b", kind=Kind.PUBLIC, redirect_uris="https://b.example/"
    )
    assert exchange(code, client_id=other.client_id).status_code in {400, 401}
    assert status_of(first["access_token"]) == 200


def test_of_two_uses_at_once_no_token_stays(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second request finds the code used after its own token was created."""
    from gridapps.access.codes import Validator

    code = allow(client, question())["code"][0]
    real = Validator.invalidate_authorization_code
    inner: list[int] = []

    def meanwhile(self: Validator, *args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(Validator, "invalidate_authorization_code", real)
        inner.append(exchange(code).status_code)
        real(self, *args, **kwargs)

    monkeypatch.setattr(Validator, "invalidate_authorization_code", meanwhile)
    assert exchange(code).status_code == 400
    assert inner == [200]
    assert AccessToken.objects.count() == 0
    assert RefreshToken.objects.filter(revoked=None).count() == 0
    assert SpentCode.objects.count() == 1
    assert Grant.objects.count() == 0


def test_an_attempt_at_a_secret_of_a_client_costs_little(cast: Cast) -> None:
    application, secret = applications.register(by=cast.analyst, name="a", kind=Kind.MACHINE)
    kept = Application.objects.get(pk=application.pk).client_secret
    assert kept.startswith("pbkdf2_sha256_random$1$")
    assert check_password(secret, kept)
    assert not check_password("x" + (secret or ""), kept)


@pytest.mark.parametrize("password", ["robotina1", "Robotina2026", "1robotina!", "12345678901"])
def test_a_password_like_the_name_is_refused(password: str) -> None:
    with pytest.raises(InvalidUser):
        operations.create_user(by=None, username="robotina", password=password)


def test_secrets_of_hooks_are_opened_with_older_keys_and_sealed_with_the_present_one() -> None:
    old = sealing.sealed("opensesame")
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert sealing.opened(old) == "opensesame"
        new = sealing.sealed("opensesame")
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[]):
        assert sealing.opened(new) == "opensesame"
        with pytest.raises(sealing.CannotOpen, match="secret-key"):
            sealing.opened(old)


@pytest.mark.django_db(transaction=True)
def test_the_migration_seals_what_is_there(
    cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = hooks.create(by=cast.analyst, target="https://example.org/x", events=["run.complete"])
    monkeypatch.setattr(settings, "DATA", tmp_path)
    executor = MigrationExecutor(connection)
    try:
        executor.migrate([("hooks", "0001_initial")])
        with connection.cursor() as cursor:
            cursor.execute("SELECT secret FROM hooks_hook")
            assert cursor.fetchone() == (hook.secret,)
        with pytest.raises(RuntimeError, match="first machine"):
            MigrationExecutor(connection).migrate([("hooks", "0002_seal_secrets")])
    finally:
        (tmp_path / "secret-key").touch()
        MigrationExecutor(connection).migrate(executor.loader.graph.leaf_nodes())
    assert Hook.objects.get().secret == hook.secret
    assert hook.secret not in everything()


def test_secrets_that_an_older_key_sealed_are_sealed_again(cast: Cast) -> None:
    hook = hooks.create(by=cast.analyst, target="https://example.org/x", events=["run.complete"])
    secret, before = hook.secret, hook.sealed_secret
    assert hooks.seal_again() == 0
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert hooks.seal_again() == 1
    hook.refresh_from_db()
    assert hook.sealed_secret != before
    with override_settings(SECRET_KEY="new"):
        assert hook.secret == secret
