"""Logging in: only the redirect with our state is accepted, and an expired token is renewed once."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from queue import Queue
from urllib.parse import parse_qs, urlsplit

import pytest
from gridapps_client import BadAnswer, Client, GridAppsError, Unauthenticated, login
from gridapps_client.configuration import Configuration, Instance

from client.tests.loopback import Server, reply

ME = {"user": {"username": "ada", "administrator": False, "developer": "none", "access_tags": []}}


def tokens(handler: BaseHTTPRequestHandler) -> None:
    reply(handler, 200, json.dumps({"access_token": "bearer", "refresh_token": "again"}).encode())


def visit(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_code_with_pkce(server: Server) -> None:
    server.answer = tokens
    pages: Queue[str] = Queue()
    with ThreadPoolExecutor() as pool:
        done = pool.submit(login.in_browser, server.url, ca=None, show=pages.put, patience=10)
        page = urlsplit(pages.get(timeout=5))
        asked = {name: values[0] for name, values in parse_qs(page.query).items()}
        back = asked["redirect_uri"]
        assert page.path == "/api/authorize"
        assert back.startswith("http://127.0.0.1:")
        # Guesses by other users of this machine are refused and do not end the login.
        assert visit(f"{back}?code=stolen&state=guess") == 404
        assert visit(f"{back}?code=stolen") == 404
        assert visit(back.replace("/callback", "/other") + f"?code=stolen&state={asked['state']}") == 404
        assert not done.done()
        assert visit(f"{back}?code=right&state={asked['state']}") == 200
        assert done.result(timeout=5) == login.Tokens(token="bearer", refresh_token="again")
    form = {name: values[0] for name, values in parse_qs(server.requests[0][3].decode()).items()}
    verifier = form.pop("code_verifier")
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert (asked["code_challenge_method"], asked["code_challenge"]) == ("S256", challenge)
    assert form == {
        "grant_type": "authorization_code",
        "code": "right",
        "redirect_uri": back,
        "client_id": "gridapps-cli",
    }


def test_refused_by_the_user(server: Server) -> None:
    def refuse(page: str) -> None:
        asked = parse_qs(urlsplit(page).query)
        back = f"{asked['redirect_uri'][0]}?error=access_denied&state={asked['state'][0]}"
        threading.Thread(target=visit, args=[back]).start()

    with pytest.raises(Unauthenticated, match="access_denied"):
        login.in_browser(server.url, ca=None, show=refuse, patience=10)


def test_nobody_comes(server: Server) -> None:
    with pytest.raises(Unauthenticated, match="not completed in time"):
        login.in_browser(server.url, ca=None, show=print, patience=0.1)


def test_a_silent_visitor_does_not_hold_it_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login._Handler, "timeout", 0.1)
    server.answer = tokens

    def silent_first(page: str) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
        port = urlsplit(asked["redirect_uri"]).port
        assert port is not None

        def both() -> None:
            import socket

            with socket.create_connection(("127.0.0.1", port)):
                visit(f"{asked['redirect_uri']}?code=c&state={asked['state']}")

        threading.Thread(target=both).start()

    assert login.in_browser(server.url, ca=None, show=silent_first, patience=10).token == "bearer"


def expiring(handler: BaseHTTPRequestHandler) -> None:
    """`old` has expired; `r1` can be used once to get `new`."""
    if handler.path == "/api/token":
        server = handler.server
        assert isinstance(server, Server)
        spent = sum(path == "/api/token" for _, path, _, _ in server.requests) > 1
        body = {"error": "invalid_grant"} if spent else {"access_token": "new", "refresh_token": "r2"}
        reply(handler, 400 if spent else 200, json.dumps(body).encode())
    elif handler.headers["Authorization"] == "Bearer new":
        reply(handler, 200, json.dumps(ME).encode())
    else:
        reply(handler, 401, json.dumps({"error": "Expired.", "code": "unauthenticated"}).encode())


def test_an_expired_token_is_renewed_and_remembered(server: Server) -> None:
    server.answer = expiring
    Configuration().save(Instance(url=server.url, token="old", refresh_token="r1"), default=True)
    with Client.configured() as early, Client.configured() as late:
        assert early.me().username == "ada"
        # The second client's refresh token is used up, but the first has stored a valid token.
        assert late.me().username == "ada"
    assert Configuration().instance() == Instance(url=server.url, token="new", refresh_token="r2")
    assert sum(path == "/api/token" for _, path, _, _ in server.requests) == 1


def test_a_spent_refresh_token(server: Server) -> None:
    server.answer = lambda handler: reply(
        handler, 401, json.dumps({"error": "Expired.", "code": "c"}).encode()
    )
    Configuration().save(Instance(url=server.url, token="old", refresh_token="r1"), default=True)
    with Client.configured() as client, pytest.raises(Unauthenticated, match="gridapps login"):
        client.me()


def test_no_renewal_for_a_token_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = expiring
    Configuration().save(Instance(url=server.url, token="new", refresh_token="r1"), default=True)
    monkeypatch.setenv("GRIDAPPS_TOKEN", "another")
    with Client.configured() as client, pytest.raises(Unauthenticated):
        client.me()
    assert [path for _, path, _, _ in server.requests] == ["/api/v3/me"]


DEVICE = {
    "device_code": "secret-code",
    "user_code": "BCDF-GHJK",
    "verification_uri": "https://x/device",
    "expires_in": 600,
    "interval": 5,
}


def _device(server: Server, answers: list[tuple[int, object]]) -> None:
    """Begin a login, then give these answers to the questions of the terminal."""
    turns = iter([(200, DEVICE), *answers])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        status, body = next(turns)
        if status == 0:
            handler.close_connection = True
        else:
            reply(handler, status, body if isinstance(body, bytes) else json.dumps(body).encode())

    server.answer = answer


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between the questions of a terminal. None is made."""
    made: list[float] = []
    monkeypatch.setattr("gridapps_client.login.time.sleep", made.append)
    return made


def test_a_code_for_another_machine(server: Server, pauses: list[float]) -> None:
    token = {"access_token": "t", "refresh_token": "r"}
    pending, slow = (400, {"error": "authorization_pending"}), (400, {"error": "slow_down"})
    _device(
        server, [pending, slow, (0, None), (502, b"<html>"), (429, {"error": "wait"}), pending, (200, token)]
    )
    shown: list[tuple[str, str]] = []
    got = login.on_device(server.url, ca=None, show=lambda *given: shown.append(given), administer=True)
    assert (got.token, got.refresh_token) == ("t", "r")
    assert shown == [("https://x/device", "BCDF-GHJK")]
    assert pauses == [5, 5, 10, 10, 10, 15, 15]
    assert b"scope=api+admin" in server.requests[0][3]
    assert b"device_code=secret-code" in server.requests[1][3]


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            (400, {"error": "access_denied", "error_description": "You refused."}),
            Unauthenticated,
            "You refused",
        ),
        ((400, {"error": "expired_token"}), Unauthenticated, "expired_token"),
        ((200, {"nothing": 1}), BadAnswer, "no token"),
        ((200, b"<html>"), GridAppsError, "gave no token"),
        ((500, b""), GridAppsError, "status 500"),
    ],
)
def test_codes_that_give_no_token(
    server: Server, pauses: list[float], answer: tuple[int, object], kind: type[Exception], said: str
) -> None:
    _device(server, [answer])
    with pytest.raises(kind, match=said):
        login.on_device(server.url, ca=None, show=lambda *_: None)
    assert pauses == [5]


@pytest.mark.parametrize("body", [{}, {**DEVICE, "interval": "x"}, {**DEVICE, "user_code": 3}, b"<html>", []])
def test_invalid_answers_to_a_device_login(server: Server, body: object) -> None:
    server.answer = lambda handler: reply(
        handler, 200, body if isinstance(body, bytes) else json.dumps(body).encode()
    )
    with pytest.raises(GridAppsError):
        login.on_device(server.url, ca=None, show=lambda *_: None)
    server.answer = lambda handler: reply(handler, 404, b"")
    with pytest.raises(GridAppsError, match="too old"):
        login.on_device(server.url, ca=None, show=lambda *_: None)
