"""Login of a terminal without a browser (RFC 8628): codes, the page of the user, the token."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import AccessToken

from gridapps.access import device_logins
from gridapps.access.models import DeviceLogin, User, WrongCodes
from gridapps.audit.models import Entry
from gridapps.housekeeping import expiry
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db
HEADERS = {"Host": "localhost", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def begin(**other: str) -> Any:
    return Client(headers=HEADERS).post("/api/device", {"client_id": "gridapps-cli"} | other)


def ask(device_code: str, **other: str) -> Any:
    form = {"grant_type": GRANT, "device_code": device_code, "client_id": "gridapps-cli"} | other
    return Client(headers=HEADERS).post("/api/token", form)


def forward(**time: float) -> None:
    """Let time pass for all logins."""
    for login in DeviceLogin.objects.all():
        passed = timedelta(**time)
        login.expires_at -= passed
        login.asked_at = login.asked_at and login.asked_at - passed
        login.save()


@pytest.fixture
def client(cast: Cast) -> Client:
    browser = Client(headers=HEADERS)
    browser.force_login(cast.analyst)
    return browser


@pytest.fixture
def begun() -> dict[str, Any]:
    answer = begin()
    assert answer.status_code == 200, answer.content
    assert answer["Cache-Control"] == "no-store"
    return answer.json()


def test_a_login_from_code_to_token(client: Client, cast: Cast, begun: dict[str, Any]) -> None:
    assert begun["verification_uri"].endswith("/device")
    assert (begun["expires_in"], begun["interval"]) == (600, 5)
    assert re.fullmatch(
        f"[{device_logins.ALPHABET}]{{4}}-[{device_logins.ALPHABET}]{{4}}", begun["user_code"]
    )
    assert ask(begun["device_code"]).json()["error"] == "authorization_pending"
    typed = f" {begun['user_code'].lower().replace('-', ' ')} "
    page = client.post("/device", {"code": typed})
    assert page.status_code == 200, page.content
    text = page.content.decode()
    assert "192.0.2.7" in text
    assert "Do everything as you, except administer the instance" in text
    assert f"<strong>{cast.analyst.username}</strong>" in text
    assert b"is logged in" in client.post("/device/decide", {"code": typed, "allow": "on"}).content
    answer = ask(begun["device_code"])
    assert answer.status_code == 200, answer.content
    assert answer["Cache-Control"] == "no-store"
    issued = answer.json()
    headers = HEADERS | {"Authorization": f"Bearer {issued['access_token']}"}
    assert Client(headers=headers).get("/api/v3/me").json()["user"]["username"] == cast.analyst.username
    renewed = Client(headers=HEADERS).post(
        "/api/token",
        {
            "grant_type": "refresh_token",
            "refresh_token": issued["refresh_token"],
            "client_id": "gridapps-cli",
        },
    )
    assert renewed.status_code == 200
    assert ask(begun["device_code"]).json()["error"] == "invalid_grant", "a code is good for one token"
    events = Entry.objects.filter(actor=f"user:{cast.analyst.pk}").values_list("event", "details__terminal")
    assert ("device.allowed", "192.0.2.7") in list(events)
    assert Entry.objects.filter(event="token.issued", subject=f"user:{cast.analyst.pk}").exists()


def test_only_hashes_are_stored(begun: dict[str, Any]) -> None:
    (row,) = DeviceLogin.objects.values()
    stored = str(row)
    assert begun["device_code"] not in stored
    assert begun["user_code"] not in stored
    assert begun["user_code"].replace("-", "") not in stored


def test_a_refused_login(client: Client, begun: dict[str, Any]) -> None:
    assert b"was refused" in client.post("/device/decide", {"code": begun["user_code"]}).content
    assert ask(begun["device_code"]).json()["error"] == "access_denied"
    assert not AccessToken.objects.exists()
    assert Entry.objects.filter(event="device.refused").exists()


def test_a_terminal_that_asks_too_often(begun: dict[str, Any]) -> None:
    code = begun["device_code"]
    assert ask(code).json()["error"] == "authorization_pending"
    assert ask(code).json()["error"] == "slow_down"
    forward(seconds=6)
    assert ask(code).json()["error"] == "slow_down", "the interval has grown to 10 s, and now to 15 s"
    forward(seconds=16)
    assert ask(code).json()["error"] == "authorization_pending"


def test_codes_expire(client: Client, begun: dict[str, Any]) -> None:
    client.post("/device/decide", {"code": begun["user_code"], "allow": "on"})
    forward(minutes=10)
    assert ask(begun["device_code"]).json()["error"] == "expired_token", "also one that was allowed"
    later = begin().json()
    forward(minutes=10)
    assert client.post("/device", {"code": later["user_code"]}).status_code == 400
    forward(minutes=10)
    assert expiry.tidy() == ["2 expired logins of devices"]
    assert ask(begun["device_code"]).json()["error"] == "invalid_grant"


def test_wrong_expired_and_decided_codes_look_the_same(client: Client, begun: dict[str, Any]) -> None:
    other = begin().json()
    DeviceLogin.objects.exclude(pk=device_logins._hash(begun["device_code"])).update(
        expires_at=timezone.now() - timedelta(seconds=1)
    )
    client.post("/device/decide", {"code": begun["user_code"], "allow": "on"})
    texts = set()
    for code in ("BBBB-BBBB", other["user_code"], begun["user_code"]):
        page = client.post("/device", {"code": code})
        assert page.status_code == 400
        texts.add(re.sub(r'value="[^"]*"', "", page.content.decode()))
    assert len(texts) == 1


def test_guesses_are_limited(client: Client, cast: Cast, begun: dict[str, Any]) -> None:
    for _ in range(device_logins.MAX_WRONG):
        assert b"is wrong, or has expired" in client.post("/device", {"code": "BBBB-BBBB"}).content
    for path in ("/device", "/device/decide"):
        page = client.post(path, {"code": begun["user_code"], "allow": "on"})
        assert (page.status_code, b"wait ten minutes" in page.content) == (400, True)
    assert ask(begun["device_code"]).json()["error"] == "authorization_pending"
    WrongCodes.objects.update(since=timezone.now() - timedelta(minutes=10))
    assert client.post("/device", {"code": begun["user_code"]}).status_code == 200


def test_no_more_logins_than_the_limit(monkeypatch: pytest.MonkeyPatch, begun: dict[str, Any]) -> None:
    monkeypatch.setattr(device_logins, "MAX_PENDING", 1)
    answer = begin()
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")


@pytest.mark.parametrize("path", ["/device", "/device/decide"])
def test_the_pages_need_a_login_and_a_token_of_the_form(cast: Cast, path: str, begun: dict[str, Any]) -> None:
    form = {"code": begun["user_code"], "allow": "on"}
    assert Client(headers=HEADERS).post(path, form)["Location"].startswith("/login?next=/device")
    checking = Client(headers=HEADERS, enforce_csrf_checks=True)
    checking.force_login(cast.analyst)
    assert checking.post(path, form).status_code == 403
    assert DeviceLogin.objects.get().state == DeviceLogin.State.PENDING


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_id": "other"}, "unauthorized_client"),
        ({"client_id": ""}, "unauthorized_client"),
        ({"scope": "api root"}, "invalid_scope"),
        ({"scope": " "}, "invalid_scope"),
        ({"scope": "api\0"}, "invalid_scope"),
    ],
)
def test_invalid_device_logins(form: dict[str, str], error: str) -> None:
    answer = begin(**form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert not DeviceLogin.objects.exists()


@pytest.mark.parametrize(
    "form", [{}, {"device_code": "x"}, {"device_code": "\0"}, {"device_code": "é" * 9999}]
)
def test_invalid_token_requests(form: dict[str, str]) -> None:
    asked = {"grant_type": GRANT, "client_id": "gridapps-cli"} | form
    answer = Client(headers=HEADERS).post("/api/token", asked)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert ask("x", client_id="other").json()["error"] == "unauthorized_client"
    assert Client(headers=HEADERS).get("/api/device").status_code == 405


def test_a_user_who_is_no_longer_active_gets_no_token(
    client: Client, cast: Cast, begun: dict[str, Any]
) -> None:
    client.post("/device/decide", {"code": begun["user_code"], "allow": "on"})
    User.objects.filter(pk=cast.analyst.pk).update(is_active=False)
    assert ask(begun["device_code"]).json()["error"] == "access_denied"


def test_a_decision_is_made_once(client: Client, cast: Cast, begun: dict[str, Any]) -> None:
    client.post("/device/decide", {"code": begun["user_code"]})
    assert client.post("/device/decide", {"code": begun["user_code"], "allow": "on"}).status_code == 400
    assert DeviceLogin.objects.get().state == DeviceLogin.State.REFUSED


def test_a_decision_has_a_user(begun: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="device_login_is_decided_by_a_user"):
        DeviceLogin.objects.update(state=DeviceLogin.State.ALLOWED)
