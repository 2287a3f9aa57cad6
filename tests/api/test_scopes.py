"""Scopes of tokens: each call needs one, and none but `admin` gives an administrator's rights."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from oauth2_provider.models import Application

from gridapps.access import applications, operations
from gridapps.access.errors import InvalidApplication
from gridapps.access.models import ApplicationScopes, User
from gridapps.access.scopes import SCOPES, covered_by
from gridapps.api.native.api import api
from gridapps.api.native.document import document
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db
HEADERS = {"Host": "localhost", "X-Forwarded-Proto": "https"}
NOTHING = "00000000-0000-4000-8000-000000000000"
CALLS = {
    ("GET", "/apps"): "apps:read",
    ("GET", "/apps/none/releases"): "apps:read",
    ("POST", "/apps"): "apps:write",
    ("PATCH", "/apps/none"): "apps:write",
    ("DELETE", "/apps/none"): "apps:write",
    ("POST", "/apps/none/runs"): "runs:write",
    ("PUT", f"/apps/none/runs/{NOTHING}"): "runs:write",
    ("GET", "/runs"): "runs:read",
    ("GET", f"/runs/{NOTHING}/log"): "runs:read",
    ("GET", f"/runs/{NOTHING}/outputs"): "runs:read",
    ("GET", f"/runs/{NOTHING}/outputs.zip"): "runs:read",
    ("POST", f"/runs/{NOTHING}/cancel"): "runs:write",
    ("POST", f"/runs/{NOTHING}/retry"): "runs:write",
    ("GET", "/tasks"): "runs:read",
    ("GET", "/exports"): "exports",
    ("GET", "/developer"): "api",
    ("GET", "/developer/certificates"): "api",
    ("POST", "/developer/certificates"): "api",
}


def token(user: User, *scopes: str) -> str:
    return operations.issue_token(by=None, user=user, lifetime=timedelta(hours=1), scopes=scopes)


def ask(bearer: str, method: str, path: str) -> Any:
    return Client(headers=HEADERS | {"Authorization": f"Bearer {bearer}"}).generic(
        method, f"/api/v3{path}", data="{}", content_type="application/json"
    )


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_opens_the_calls_of_its_scope_and_no_others(cast: Cast, scope: str) -> None:
    bearer = token(cast.developer, scope)
    for (method, path), needed in CALLS.items():
        answer = ask(bearer, method, path)
        refused = answer.status_code == 403 and answer.json()["code"] == "insufficient-scope"
        assert refused != (needed in covered_by([scope])), (method, path, answer.content)
        if refused:
            assert repr(needed) in answer.json()["error"]
            assert 'error="insufficient_scope"' in answer["WWW-Authenticate"]
    assert ask(bearer, "GET", "/me").status_code == 200


def test_the_documentation_names_the_scope_of_every_call() -> None:
    text = Path("docs/api.md").read_text().partition("## Scopes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z:]+)` \| (`.*`) \|$", text, re.MULTILINE)
    documented = {call: scope for scope, calls in rows for call in re.findall(r"`(\w+)`", calls)}
    declared = {
        call["operationId"]: call["security"][0]["Bearer"]
        for path in document(api)["paths"].values()
        for call in path.values()
    }
    assert documented == {name: scopes[0] for name, scopes in declared.items() if scopes not in ([], ["api"])}
    assert [name for name, scopes in declared.items() if not scopes] == ["show_me"]


def test_an_administrators_token_is_an_ordinary_one_without_the_scope(cast: Cast) -> None:
    for scopes, administrator in ((["api"], False), (["api", "admin"], True), (["admin"], True)):
        me = ask(token(cast.administrator, *scopes), "GET", "/me").json()["user"]
        assert me["administrator"] is administrator
    assert ask(token(cast.outsider, "api", "admin"), "GET", "/me").json()["user"]["administrator"] is False


def test_a_restricted_user_is_never_saved(cast: Cast) -> None:
    with pytest.raises(TypeError):
        cast.administrator.restricted().save()
    assert User.objects.get(pk=cast.administrator.pk).is_superuser


def robot(cast: Cast, *scopes: str) -> dict[str, str]:
    application, secret = applications.register(
        by=cast.analyst, name="robot", kind=applications.Kind.MACHINE, scopes=scopes
    )
    assert secret
    return {
        "client_id": application.client_id,
        "client_secret": secret,
        "grant_type": "client_credentials",
    }


def test_an_application_gets_what_was_chosen_at_its_registration(cast: Cast) -> None:
    credentials = robot(cast, "runs:read", "exports")
    client = Client(headers=HEADERS)
    assert client.post("/api/token", credentials).json()["scope"] == "runs:read exports"
    assert client.post("/api/token", credentials | {"scope": "exports"}).json()["scope"] == "exports"
    for wrong in ("api", "runs:write", "admin", "exports admin", "nonsense"):
        answer = client.post("/api/token", credentials | {"scope": wrong})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), wrong


def test_an_application_of_the_whole_api_may_ask_for_less(cast: Cast) -> None:
    credentials = robot(cast, "api")
    client = Client(headers=HEADERS)
    assert client.post("/api/token", credentials).json()["scope"] == "api"
    assert client.post("/api/token", credentials | {"scope": "runs:write"}).status_code == 200
    assert client.post("/api/token", credentials | {"scope": "admin"}).status_code == 400


def test_an_application_without_a_choice_gets_the_api_and_no_more(cast: Cast) -> None:
    credentials = robot(cast, "api")
    ApplicationScopes.objects.filter(application__user=cast.analyst).delete()
    client = Client(headers=HEADERS)
    assert client.post("/api/token", credentials).json()["scope"] == "api"
    assert client.post("/api/token", credentials | {"scope": "admin"}).status_code == 400


@pytest.mark.parametrize("scopes", [[], ["nonsense"], ["api", "nonsense"], ["admin"]])
def test_what_cannot_be_chosen(cast: Cast, scopes: list[str]) -> None:
    with pytest.raises(InvalidApplication):
        applications.register(by=cast.analyst, name="x", kind=applications.Kind.MACHINE, scopes=scopes)
    assert not Application.objects.filter(user=cast.analyst).exists()


def test_the_command_may_ask_for_an_administrators_powers(cast: Cast) -> None:
    command = Application.objects.get(client_id="gridapps-cli")
    assert command.allowed.scopes == ["api", "admin"]
