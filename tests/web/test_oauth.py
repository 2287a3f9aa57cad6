"""OAuth 2.0 as the `gridapps` command uses it: authorization code with PKCE, at any port of the loopback."""

import base64
import hashlib
import re
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from oauth2_provider.models import Application

from gridapps.access import applications
from gridapps.access.applications import Kind
from gridapps.access.errors import InvalidApplication
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db
HEADERS = {"Host": "localhost", "X-Forwarded-Proto": "https"}
VERIFIER = secrets.token_urlsafe(64)
REDIRECT = "http://127.0.0.1:54321/callback"


def question(**other: str) -> dict[str, str]:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    return {
        "response_type": "code", "client_id": "gridapps-cli", "redirect_uri": REDIRECT, "scope": "api",
        "state": "xyz", "code_challenge": challenge, "code_challenge_method": "S256", **other,
    }  # fmt: skip


def allow(client: Client, asked: dict[str, str], *, answer: str = "on") -> dict[str, list[str]]:
    page = client.get("/api/authorize", asked)
    assert page.status_code == 200, page.content
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.content.decode()))
    done = client.post("/api/authorize", fields | ({"allow": answer} if answer else {}))
    assert done.status_code == 302, done.content
    assert done["Location"].startswith(f"{REDIRECT}?")
    return parse_qs(urlsplit(done["Location"]).query)


def exchange(code: str, **other: str) -> Any:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT,
            "client_id": "gridapps-cli", "code_verifier": VERIFIER} | other  # fmt: skip
    return Client(headers=HEADERS).post("/api/token", form)


@pytest.fixture
def client(cast: Cast) -> Client:
    browser = Client(headers=HEADERS)
    browser.force_login(cast.analyst)
    return browser


def status_of(token: str) -> int:
    answer = Client(headers=HEADERS | {"Authorization": f"Bearer {token}"}).get("/api/v3/me")
    return answer.status_code


def test_a_code_becomes_a_token_that_can_be_renewed_and_revoked(client: Client) -> None:
    redirected = allow(client, question())
    assert redirected["state"] == ["xyz"]
    first = exchange(redirected["code"][0]).json()
    assert status_of(first["access_token"]) == 200
    again = Client(headers=HEADERS).post(
        "/api/token",
        {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": "gridapps-cli"},
    )
    assert again.status_code == 200
    token = again.json()["access_token"]
    assert (status_of(first["access_token"]), status_of(token)) == (401, 200)
    Client(headers=HEADERS).post("/api/revoke_token", {"token": token, "client_id": "gridapps-cli"})
    assert status_of(token) == 401


def test_a_code_is_good_once_and_only_with_its_verifier(client: Client) -> None:
    code = allow(client, question())["code"][0]
    assert exchange(code, code_verifier="x" * 64).status_code == 400
    code = allow(client, question())["code"][0]
    assert exchange(code).status_code == 200
    assert exchange(code).status_code == 400


def test_who_refuses_gives_nothing(client: Client) -> None:
    assert allow(client, question(), answer="") == {"error": ["access_denied"], "state": ["xyz"]}


def test_the_user_is_asked_each_time(client: Client) -> None:
    exchange(allow(client, question())["code"][0])
    page = client.get("/api/authorize", question(approval_prompt="auto"))
    assert page.status_code == 200
    assert b"Allow gridapps command?" in page.content


@pytest.mark.parametrize(
    "wrong",
    [{"redirect_uri": "http://127.0.0.1:1/other"}, {"redirect_uri": "https://evil.example/callback"},
     {"redirect_uri": "http://127.0.0.1.evil.example/callback"}, {"client_id": "nobody"}],
)  # fmt: skip
def test_a_request_that_is_not_the_clients_is_not_redirected(client: Client, wrong: dict[str, str]) -> None:
    assert client.get("/api/authorize", question(**wrong)).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [{"code_challenge_method": "plain"}, {"code_challenge": ""}, {"response_type": "token"},
     {"scope": "root"}],
)  # fmt: skip
def test_weaker_ways_are_refused(client: Client, wrong: dict[str, str]) -> None:
    asked = question(**wrong)
    answer = client.get("/api/authorize", asked)
    if answer.status_code == 200:
        answer = client.post("/api/authorize", asked | {"allow": "on"})
    assert answer.status_code in {302, 400}
    assert "code=" not in answer.headers.get("Location", "")
    assert "token=" not in answer.headers.get("Location", "")


def test_the_form_may_lead_to_the_client_and_nowhere_else(client: Client) -> None:
    policy = client.get("/api/authorize", question())["Content-Security-Policy"]
    assert "form-action 'self' http://127.0.0.1:54321;" in policy


def test_passwords_are_no_grant(client: Client) -> None:
    answer = Client(headers=HEADERS).post(
        "/api/token",
        {"grant_type": "password", "username": "a", "password": "b", "client_id": "gridapps-cli"},
    )
    assert answer.status_code in {400, 401}


@pytest.mark.parametrize(
    "address",
    [
        "https://a.example;script-src *",
        "https://a.example;script-src%20*/",
        "https://a.example'unsafe-inline'/",
        "https://a.example,b.example/",
        "https://*.example/",
        "https://user@a.example/",
        "https://a.example:x/",
        "https://a.example:99999/",
        "https://[::1;x]/",
        "https:///a",
        "https://a_b\u00e9.example/",
    ],
)
def test_a_redirect_address_adds_nothing_to_the_policy(client: Client, cast: Cast, address: str) -> None:
    with pytest.raises(InvalidApplication):
        applications.register(by=cast.analyst, name="a", kind=Kind.PUBLIC, redirect_uris=address)


def test_a_redirect_address_of_before_adds_nothing_to_the_policy(client: Client, cast: Cast) -> None:
    application, _ = applications.register(
        by=cast.analyst, name="a", kind=Kind.PUBLIC, redirect_uris="https://a.example/"
    )
    for host in ("a.example;script-src", "a.example'unsafe-inline'"):
        address = f"https://{host}/"
        Application.objects.filter(pk=application.pk).update(redirect_uris=address)
        page = client.get("/api/authorize", question(client_id=application.client_id, redirect_uri=address))
        policy = page["Content-Security-Policy"]
        assert "unsafe-inline" not in policy
        assert policy.count("script-src") == 1
