"""Translate exceptions of httpx and error answers of an instance into the errors of `errors`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import httpx

from gridapps_client import bodies
from gridapps_client.errors import (
    BadAnswer,
    Conflict,
    FieldError,
    GridAppsError,
    NotFound,
    Unauthenticated,
    Unreachable,
    Untrusted,
)

TRANSIENT = {"refused", "timeout", "broken"}
# What nginx, or an instance that is starting or stopping, answers.
AWAY = {502, 503, 504}
_NO_SUCH_HOST_NAME = 62
_NO_SUCH_ADDRESS = 64
_FOR_ADMINISTRATORS = {"insufficient-scope", "not-an-administrator"}
_NOTHING = "There is nothing here"  # begins the sentence of an instance that does not say what is missing
_KINDS = {
    "apps": "App",
    "runs": "run",
    "exports": "export",
    "hooks": "hook",
    "developer/certificates": "certificate",
}
_BY_STATUS: dict[int, type[GridAppsError]] = {
    401: Unauthenticated,
    404: NotFound,
    **dict.fromkeys(AWAY, Unreachable),
    409: Conflict,
    412: Conflict,
}


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Translate exceptions of httpx into errors that name `url`."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise Unreachable(
            f"{url} did not answer in time; is the address right, and may this machine reach it?",
            code="timeout",
        ) from error
    except httpx.TimeoutException as error:
        raise Unreachable(
            f"{url} took the connection but was silent for too long; try again.", code="timeout"
        ) from error
    except httpx.ConnectError as error:
        raise _not_connected(url, error) from error
    except httpx.TransportError as error:
        raise Unreachable(
            f"The connection to {url} broke off ({error or 'closed'}); try again.", code="broken"
        ) from error
    except httpx.HTTPError as error:
        raise BadAnswer(
            f"{url} sent an answer that cannot be read ({error}); is the URL right?", code="bad-answer"
        ) from error
    except (httpx.InvalidURL, UnicodeError) as error:
        raise GridAppsError(f"{url} cannot be asked for this ({error}).", code="usage") from error


def of_answer(answer: httpx.Response) -> GridAppsError:
    """The error of an answer that has been read and is neither 2xx nor 304."""
    status = answer.status_code
    try:
        body = bodies.parsed(answer.content)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("error"), str):
        if status in AWAY:
            return Unreachable(
                f"{answer.url.host} is starting, stopping or overloaded (status {status}); try again.",
                status=status,
                code="unavailable",
            )
        return BadAnswer(
            f"{answer.url.host} answered with status {status} and no reason; is the URL right?",
            status=status,
            code="bad-answer",
        )
    code = body.get("code")
    kind = _BY_STATUS.get(status, GridAppsError)
    message: str = body["error"]
    login = f"gridapps login {answer.url.scheme}://{answer.url.netloc.decode()}"
    if kind is Unauthenticated:
        message += f" Log in with: {login}"
    if code in _FOR_ADMINISTRATORS and "admin" in message:
        message += f" Administrators log in with: {login} --admin"
    if kind is NotFound and message.startswith(_NOTHING):
        message = _missing(answer) or message
    return kind(
        message, status=status, code=code if isinstance(code, str) else f"http-{status}", fields=_fields(body)
    )


def _missing(answer: httpx.Response) -> str | None:
    """What the path names, if it names one thing. The instance does not say, because that could reveal what
    exists.
    """
    parts = answer.url.raw_path.partition(b"?")[0].decode().removeprefix("/api/v3/").split("/")
    if len(parts) == 3 and parts[0] == "runs":
        parts.pop()
    kind = _KINDS.get("/".join(parts[:-1]))
    return f"There is no {kind} {unquote(parts[-1])!r}, or you may not see it." if kind else None


def parsed(answer: httpx.Response) -> Any:
    """The JSON in an answer that has been read, or None when it is empty."""
    if not answer.content:
        return None
    try:
        return bodies.parsed(answer.content)
    except ValueError as error:
        raise BadAnswer(
            f"{answer.url.host} answered with something that is not JSON; is the URL right?",
            status=answer.status_code,
            code="bad-answer",
        ) from error


def _fields(body: dict[str, Any]) -> tuple[FieldError, ...]:
    given = body.get("fields")
    if not isinstance(given, list):
        return ()
    return tuple(
        FieldError(pointer=str(each.get("pointer", "")), error=str(each.get("error", "")))
        for each in given
        if isinstance(each, dict)
    )


def _not_connected(url: str, error: Exception) -> GridAppsError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(url, cause)
        if isinstance(cause, ssl.SSLError):
            return Untrusted(
                f"{url} does not speak TLS as expected ({cause.reason}); is the port right?", code="tls"
            )
        if isinstance(cause, socket.gaierror):
            return Unreachable(f"The name in {url} is not known; is it spelled right?", code="unknown-host")
        if isinstance(cause, ConnectionRefusedError):
            return Unreachable(
                f"Nothing answers at {url} (connection refused); is the instance running?", code="refused"
            )
        cause = cause.__cause__ or cause.__context__
    return Unreachable(f"{url} cannot be reached ({error}).", code="refused")


def _untrusted(url: str, cause: ssl.SSLCertVerificationError) -> Untrusted:
    if cause.verify_code in (_NO_SUCH_HOST_NAME, _NO_SUCH_ADDRESS):
        message = (
            f"The certificate of {url} is for another name; use the one that the instance was set up with."
        )
    else:
        message = (
            f"The certificate of {url} is not trusted ({cause.verify_message}). If the instance has an "
            "authority of its own, get its ca.crt from the operator and give it with --ca FILE."
        )
    return Untrusted(message, code="tls")
