"""Arbitrary requests: authentication, bodies, paths, methods. Never a 500, and no internal details."""

import json
import re
from collections import Counter
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application

from gridapps.access import queries
from tests.api.conftest import DIGEST, Callers, MakeApp, MakeExport
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db
HOST = {"Host": "localhost"}


def error(answer: Any) -> tuple[int, str]:
    assert answer["Content-Type"].startswith("application/json"), answer.content
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer nonsense", "Basic YTpi", "Bearer \xff\xfe", "Bearer a b"],
)
def test_without_a_good_token_nobody_comes_in(db: None, header: str | None) -> None:
    headers = HOST | ({} if header is None else {"Authorization": header})
    answer = Client().get("/api/v3/me", headers=headers, secure=True)
    assert error(answer) == (401, "unauthenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_tokens_of_another_scope_expired_ones_and_those_of_disabled_users_do_not_count(
    callers: Callers,
) -> None:
    token = AccessToken.objects.get(user=callers.analyst.user)
    for change in ({"scope": "read"}, {"expires": timezone.now() - timedelta(seconds=1)}):
        for name, value in change.items():
            setattr(token, name, value)
        token.save()
        assert error(callers.analyst("GET", "/me")) == (401, "unauthenticated")
        token.scope, token.expires = "api", timezone.now() + timedelta(hours=1)
        token.save()
        assert callers.analyst("GET", "/me").status_code == 200
    callers.analyst.user.is_active = False
    callers.analyst.user.save()
    assert error(callers.analyst("GET", "/me")) == (401, "unauthenticated")


def test_a_token_of_client_credentials_acts_as_the_applications_owner(callers: Callers) -> None:
    application = Application.objects.create(
        user=callers.analyst.user,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
    )
    AccessToken.objects.create(
        token="machine",
        application=application,
        scope="api",
        expires=timezone.now() + timedelta(hours=1),
    )
    callers.analyst.token = "machine"
    assert callers.analyst("GET", "/me").json()["user"]["username"] == "analyst"
    application.authorization_grant_type = Application.GRANT_AUTHORIZATION_CODE
    application.save()
    assert error(callers.analyst("GET", "/me")) == (401, "unauthenticated")


def test_a_session_reads_but_writes_only_with_the_csrf_token(callers: Callers) -> None:
    browser = Client(enforce_csrf_checks=True, headers=HOST)
    browser.force_login(callers.analyst.user)
    assert browser.get("/api/v3/me", secure=True).json()["user"]["username"] == "analyst"
    body = json.dumps({"statement": "x"})
    answer = browser.post("/api/v3/developer", body, "application/json", secure=True)
    assert error(answer) == (403, "csrf-failed")
    browser.cookies["csrftoken"] = "a" * 32
    answer = browser.post(
        "/api/v3/developer",
        body,
        "application/json",
        secure=True,
        headers=HOST | {"X-CSRFToken": "a" * 32, "Referer": "https://localhost/"},
    )
    assert answer.status_code == 201


def test_a_session_sends_no_form(callers: Callers) -> None:
    """The CSRF check reads forms, after which the body is gone."""
    browser = Client(enforce_csrf_checks=True, raise_request_exception=False, headers=HOST)
    browser.force_login(callers.analyst.user)
    browser.cookies["csrftoken"] = "a" * 32
    headers = HOST | {"X-CSRFToken": "a" * 32, "Referer": "https://localhost/"}
    parts = b'--b\r\nContent-Disposition: form-data; name="event"\r\n\r\nx\r\n--b--\r\n'
    for kind, body in (
        ("multipart/form-data; boundary=b", parts),
        ("multipart/form-data; boundary=b", b"{}"),
        ("multipart/form-data", b"{}"),
        ("application/x-www-form-urlencoded", b"event=x"),
    ):
        answer = browser.generic(
            "POST", "/api/v3/hooks", body, content_type=kind, secure=True, headers=headers
        )
        assert error(answer) == (415, "unsupported-media-type"), kind


def test_a_bad_token_is_not_made_good_by_a_session(callers: Callers) -> None:
    browser = Client(headers=HOST)
    browser.force_login(callers.analyst.user)
    answer = browser.get("/api/v3/me", headers=HOST | {"Authorization": "Bearer no"}, secure=True)
    assert error(answer) == (401, "unauthenticated")


DEEP = b'{"statement":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "invalid-request")),
        (b"{", (400, "invalid-json")),
        (b"[]", (400, "invalid-request")),
        (b'"x"', (400, "invalid-request")),
        (b"null", (400, "invalid-request")),
        (b"{}", (400, "invalid-request")),
        (b'{"statement": 1}', (400, "invalid-request")),
        (b'{"statement": "x", "other": 1}', (400, "invalid-request")),
        (b'{"statement": "\\u0000"}', (400, "invalid-json")),
        (b'{"statement": "\\ud800"}', (400, "invalid-json")),
        (b'{"statement": "a", "statement": "b"}', (400, "invalid-json")),
        (b'{"statement": NaN}', (400, "invalid-json")),
        (b'{"statement": -Infinity}', (400, "invalid-json")),
        (b'{"statement": 1e999}', (400, "invalid-json")),
        (b'{"statement": 1' + b"0" * 10_000 + b"}", (400, "invalid-json")),
        (b'\xff\xfe{\x00}\x00', (400, "invalid-json")),
        (b'{"statement": "\xff"}', (400, "invalid-json")),
        (DEEP, (400, "invalid-json")),
        (b"[" * 100 + b"]" * 100, (400, "invalid-json")),
        (b'{"statement": "' + b"x" * 2 * 1024**2 + b'"}', (413, "too-large")),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused(callers: Callers, body: bytes, expected: tuple[int, str]) -> None:
    assert error(callers.analyst("POST", "/developer", body)) == expected
    assert queries.developer_of(callers.analyst.user) is None


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded",
                                  "application/json; charset=utf-16"])  # fmt: skip
def test_only_json_is_taken(callers: Callers, kind: str) -> None:
    answer = callers.analyst("POST", "/developer", b'{"statement": "x"}', content_type=kind)
    assert error(answer) == (415, "unsupported-media-type")


def test_a_fault_in_the_body_has_its_pointer(callers: Callers) -> None:
    body = {"id": "A", "title": "", "resources": {"cpus": 0, "memory": "1", "a/b": 1}}
    fields = callers.developer("POST", "/apps", body).json()["fields"]
    assert {field["pointer"] for field in fields} == {
        "/id", "/title", "/resources/cpus", "/resources/memory", "/resources/a~1b"
    }  # fmt: skip


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=1_0", "limit=%20", "limit=9999999999999999999999", "after=x",
              "state=queued", "app=A", "app=%00", "nothing=1", "%00=1",
              "&".join(f"x{i}=" for i in range(2000))]
)  # fmt: skip
def test_bad_queries_are_refused(callers: Callers, query: str) -> None:
    answer = callers.analyst("GET", f"/runs?{query}")
    assert error(answer) == (400, "invalid-request")
    if "x1999" not in query:
        assert answer.json()["fields"][0]["pointer"].startswith("?")


@pytest.mark.parametrize("path", [
    "/nothing", "/", "/apps/", "/apps/A", "/apps/a%00b", "/apps/none", "/runs/1", "/runs/%00", "/exports/0",
    "/exports/1,", "/exports/9999999999999999999999", "/exports/-1", "/exports/1;drop", "/tasks/x",
    "/runs/00000000-0000-0000-0000-000000000000", "/runs/{00000000-0000-0000-0000-000000000000}",
    "/exports/" + ",".join(["1"] * 101), "/apps/none/releases",
])  # fmt: skip
def test_what_cannot_be_there_is_not_found(callers: Callers, path: str) -> None:
    assert error(callers.analyst("GET", path)) == (404, "not-found")


def test_no_cache_on_the_way_keeps_an_answer(callers: Callers) -> None:
    assert callers.analyst("GET", "/me")["Cache-Control"] == "private, no-cache"


def test_other_methods_are_named(callers: Callers) -> None:
    answer = callers.analyst("PUT", "/apps")
    assert error(answer) == (405, "method-not-allowed")
    assert set(answer["Allow"].split(", ")) == {"GET", "POST"}


def test_head_answers_like_get(
    callers: Callers, make_app: MakeApp, make_export: MakeExport, cast: Cast
) -> None:
    """Of every call that reads, for an object that is there, and of streams as well."""
    make_app()
    export = str(make_export(callers.developer.user).pk)
    run = callers.developer("POST", "/apps/roads/runs", {"export": export}).json()["runs"][0]["run_id"]
    words = {"app_id": "roads", "run_id": run, "task_id": run, "export_id": export, "digest": DIGEST}
    paths = callers.developer("GET", "/openapi.json").json()["paths"]
    compared = Counter[int]()
    for path in (path for path, calls in paths.items() if "get" in calls):
        address = re.sub(r"\{(\w+)\}", lambda match: words.get(match[1], "1"), path.removeprefix("/api/v3"))
        get, head = (callers.developer(method, address) for method in ("GET", "HEAD"))
        assert head.status_code == get.status_code, address
        assert head["Content-Type"] == get["Content-Type"], address
        assert not head.content, address
        compared[get.status_code] += 1
    assert compared[200] > 15, compared
    zipped = callers.developer("HEAD", f"/runs/{run}/outputs.zip")
    assert int(zipped["Content-Length"]) > 0
    assert callers.developer("HEAD", f"/runs/{run}/log?follow=1")["Content-Type"] == "text/event-stream"
    assert callers.developer("HEAD", f"/runs/{run}/cancel").status_code == 405


def test_an_unknown_failure_tells_nothing_but_an_id(
    callers: Callers, caplog: pytest.LogCaptureFixture
) -> None:
    with patch("gridapps.access.queries.developer_of", side_effect=RuntimeError("secret path")):
        answer = callers.analyst("GET", "/me")
    assert error(answer) == (500, "internal-error")
    assert b"secret" not in answer.content
    assert answer.json()["id"] in caplog.text
    assert "secret path" in caplog.text


def test_a_database_that_is_away_is_said_plainly(callers: Callers) -> None:
    with patch(
        "gridapps.access.queries.developer_of", side_effect=OperationalError("no such host db.internal")
    ):
        answer = callers.analyst("GET", "/me")
    assert error(answer) == (503, "unavailable")
    assert answer["Retry-After"] == "5"
    assert b"db.internal" not in answer.content
