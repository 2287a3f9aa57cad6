"""Logging in with a browser: OAuth 2.0 authorization code with PKCE (S256) and a listener on the loopback
(RFC 8252).

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
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from gridapps_client import bodies, failures
from gridapps_client.address import canonical
from gridapps_client.configuration import Configuration, Instance
from gridapps_client.errors import GridAppsError, Unauthenticated
from gridapps_client.transport import connections

CLIENT_ID = "gridapps-cli"
_PATIENCE = 300.0
_PAGE = """<!doctype html><meta charset="utf-8"><title>GRiD Apps</title>
<body style="font: 1.1rem system-ui; margin: 4rem"><p>{}</p>"""


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
            "scope": "api admin" if administer else "api",
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


def _ask(url: str, *, ca: str | None, form: dict[str, str]) -> Tokens:
    answer = _post(url, "/api/token", ca=ca, form=form | {"client_id": CLIENT_ID})
    try:
        body = bodies.parsed(answer.content)
    except ValueError:
        body = None
    token = body.get("access_token") if isinstance(body, dict) else None
    if isinstance(token, str):
        refresh = body.get("refresh_token")
        return Tokens(token=token, refresh_token=refresh if isinstance(refresh, str) else None)
    why = (body.get("error_description") or body.get("error")) if isinstance(body, dict) else None
    message = (
        f"{url} gave no token ({why or f'status {answer.status_code}'}). Log in with: gridapps login {url}"
    )
    # Only 4xx means that the code or the refresh token is not valid.
    raise (Unauthenticated if answer.is_client_error else GridAppsError)(
        message, status=answer.status_code, code="login"
    )


def _post(url: str, path: str, *, ca: str | None, form: dict[str, str]) -> httpx.Response:
    address = canonical(url)
    with failures.translated(address), connections(ca=ca, timeout=30.0) as http:
        return http.post(address + path, data=form)
