"""Logging in with a browser: OAuth 2.0 authorization code with PKCE (S256) and a listener on the loopback
(RFC 8252); or a code that is entered in a browser on another machine (RFC 8628).

The password is typed into the instance's own page and never seen here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from gridapps_client import bodies, failures
from gridapps_client.address import canonical
from gridapps_client.configuration import Configuration, Instance
from gridapps_client.decoding import decode
from gridapps_client.errors import BadAnswer, GridAppsError, Unauthenticated, Unreachable
from gridapps_client.transport import connections

CLIENT_ID = "gridapps-cli"
_PATIENCE = 300.0
_LONGEST = 1800.0  # seconds that a code may be valid
_PAGE = """<!doctype html><meta charset="utf-8"><title>GRiD Apps</title>
<body style="font: 1.1rem system-ui; margin: 4rem"><p>{}</p>"""


@dataclass(frozen=True)
class _Device:
    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    interval: int = 5


@dataclass(frozen=True)
class Tokens:
    """A bearer token, and a refresh token to renew it."""

    token: str
    refresh_token: str | None


def in_browser(
    url: str,
    *,
    ca: str | None,
    show: Callable[[str], None],
    administer: bool = False,
    patience: float = _PATIENCE,
) -> Tokens:
    """Let the user log in at the page whose URL `show` receives, within `patience` seconds.

    `administer`: also ask for the scope of administrators.
    """
    verifier = secrets.token_urlsafe(64)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    state = secrets.token_urlsafe(32)
    with _listening(state) as listener:
        redirect = f"http://127.0.0.1:{listener.server_port}/callback"
        question = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": redirect,
            "scope": _scope(administer),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        show(f"{canonical(url)}/api/authorize?{urlencode(question)}")
        code = listener.wait(patience)
    return _ask(
        url,
        ca=ca,
        form={
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": verifier,
        },
    )


def on_device(
    url: str,
    *,
    ca: str | None,
    show: Callable[[str, str], None],
    administer: bool = False,
) -> Tokens:
    """Let the user log in with a browser on any machine: device authorization grant (RFC 8628).

    `show` receives the address of the page and the code to enter there.
    """
    begun = _post(url, "/api/device", ca=ca, form={"client_id": CLIENT_ID, "scope": _scope(administer)})
    if begun.status_code == 404:
        raise GridAppsError(f"{url} is too old for a login with a code.", status=404, code="login")
    device = decode(_Device, _object(begun, url), where="login")
    show(device.verification_uri, device.user_code)
    interval = max(1, device.interval)
    until = time.monotonic() + min(device.expires_in, _LONGEST)
    while time.monotonic() < until:
        time.sleep(interval)
        try:
            answer = _post(
                url,
                "/api/token",
                ca=ca,
                form={
                    "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
                    "device_code": device.device_code,
                    "client_id": CLIENT_ID,
                },
            )
        except Unreachable:
            continue
        why = _error(answer)
        if answer.status_code == 429 or why == "slow_down":
            interval += 5
        elif why != "authorization_pending" and answer.status_code not in failures.AWAY:
            return _tokens(answer, url)
    raise Unauthenticated("The login was not completed in time; run gridapps login again.", code="login")


def renewed(url: str, *, ca: str | None, refresh_token: str) -> Tokens:
    """New tokens for a refresh token, which becomes invalid."""
    return _ask(url, ca=ca, form={"grant_type": "refresh_token", "refresh_token": refresh_token})


def revoke(url: str, *, ca: str | None, token: str) -> None:
    """Revoke a token from `in_browser`. Revoking a refresh token also revokes its bearer token."""
    answer = _post(url, "/api/revoke_token", ca=ca, form={"token": token, "client_id": CLIENT_ID})
    if not answer.is_success:
        raise GridAppsError(f"{url} did not take the token back (status {answer.status_code}).", code="login")


class Renewal:
    """Renews the token of a client, and stores it."""

    def __init__(self, configuration: Configuration, instance: Instance) -> None:
        self._configuration = configuration
        self._instance = instance

    def __call__(self) -> str | None:
        """A new token, or None."""
        if self._instance.refresh_token is None:
            return None
        # Another command may have renewed it, and a refresh token can be used only once.
        newer = self._from_elsewhere()
        if newer is None:
            try:
                tokens = renewed(
                    self._instance.url, ca=self._instance.ca, refresh_token=self._instance.refresh_token
                )
            except Unauthenticated:
                newer = self._from_elsewhere()
            else:
                newer = replace(self._instance, token=tokens.token, refresh_token=tokens.refresh_token)
                self._configuration.save(newer)
        if newer is None:
            return None
        self._instance = newer
        return newer.token

    def _from_elsewhere(self) -> Instance | None:
        stored = self._configuration.stored(self._instance.url)
        return stored if stored and stored.token != self._instance.token else None


def _listening(state: str) -> _Listener:
    try:
        return _Listener(state)
    except OSError as error:
        raise GridAppsError(
            f"This machine has no free port on 127.0.0.1 ({error.strerror}). "
            "Log in with: gridapps login URL --device",
            code="login",
        ) from error


class _Listener(HTTPServer):
    """Accepts the one redirect that has our `state`, and refuses all other requests."""

    def __init__(self, state: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = state
        self.answer: Mapping[str, str] | None = None

    def wait(self, patience: float) -> str:
        """The authorization code."""
        until = time.monotonic() + patience
        while self.answer is None:
            self.timeout = max(0.0, until - time.monotonic())
            if self.timeout == 0.0:
                raise Unauthenticated(
                    "The login was not completed in time; run gridapps login again.", code="login"
                )
            self.handle_request()
        if "code" in self.answer:
            return self.answer["code"]
        why = self.answer.get("error_description") or self.answer.get("error") or "no reason given"
        raise Unauthenticated(f"The instance did not let this client in: {why}.", code="login")


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    timeout = 5

    def do_GET(self) -> None:
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._page(HTTPStatus.NOT_FOUND, "This page does not exist.")
            return
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path != "/callback" or not hmac.compare_digest(
            given.get("state", "").encode(), self.server.state.encode()
        ):
            self._page(HTTPStatus.NOT_FOUND, "This page does not exist.")
            return
        self.server.answer = given
        if "code" in given:
            self._page(
                HTTPStatus.OK, "You are logged in. You can close this page and return to the terminal."
            )
        else:
            self._page(HTTPStatus.OK, "You are not logged in. The terminal shows the reason.")

    def _page(self, status: HTTPStatus, sentence: str) -> None:
        body = _PAGE.format(sentence).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is the base class's)
        """Log nothing, because the request line contains the code."""


def _scope(administer: bool) -> str:
    return "api admin" if administer else "api"


def _ask(url: str, *, ca: str | None, form: dict[str, str]) -> Tokens:
    return _tokens(_post(url, "/api/token", ca=ca, form=form | {"client_id": CLIENT_ID}), url)


def _tokens(answer: httpx.Response, url: str) -> Tokens:
    body = _object(answer, url)
    token, refresh = body.get("access_token"), body.get("refresh_token")
    if not isinstance(token, str):
        raise BadAnswer(f"{url} sent no token; is the URL right?", code="bad-answer")
    return Tokens(token=token, refresh_token=refresh if isinstance(refresh, str) else None)


def _object(answer: httpx.Response, url: str) -> dict[str, Any]:
    """The JSON object of a successful answer."""
    body = _body(answer)
    if answer.is_success and body:
        return body
    why = body.get("error_description") or body.get("error") or f"status {answer.status_code}"
    # Only 4xx means that the code or the refresh token is not valid.
    raise (Unauthenticated if answer.is_client_error else GridAppsError)(
        f"{url} gave no token ({str(why).rstrip('.')}). Log in with: gridapps login {url}",
        status=answer.status_code,
        code="login",
    )


def _error(answer: httpx.Response) -> object:
    return None if answer.is_success else _body(answer).get("error")


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = bodies.parsed(answer.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _post(url: str, path: str, *, ca: str | None, form: dict[str, str]) -> httpx.Response:
    address = canonical(url)
    with failures.translated(address), connections(ca=ca, timeout=30.0) as http:
        return http.post(address + path, data=form)
