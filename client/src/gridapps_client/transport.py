"""HTTP to one instance: TLS, the bearer token, retries, and failures as sentences."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gridapps_client import bodies, failures
from gridapps_client.address import canonical
from gridapps_client.errors import GridAppsError

_PAUSES = (0.2, 0.5, 1.0)
_SAFE_TO_REPEAT = {"GET", "PUT", "DELETE"}
_LONGEST_RETRY_AFTER = 10.0


class Transport:
    """A connection pool to the instance at `url`.

    `ca` is a file with the certificate authority to trust instead of the system's; verification cannot be
    turned off. `timeout` limits connecting and each wait for data, in seconds. `renew` is called once when
    the token is refused, and returns a new one or None.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        timeout: float = 30.0,
        renew: Callable[[], str | None] | None = None,
    ) -> None:
        self.url = canonical(url)
        self._token = _checked(token)
        self._renew = renew
        self._timeout = timeout
        self._http = connections(
            ca=ca,
            base_url=self.url,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            headers={"User-Agent": "gridapps-client/0.1", "Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0.0,
    ) -> tuple[Any, httpx.Headers, int]:
        """The parsed answer (None if empty), its headers and its status.

        `patience`: seconds in addition to the timeout for which the instance may delay the answer.
        """
        with self.stream(
            method, path, params=params, body=body, headers=headers, patience=patience
        ) as answer:
            with failures.translated(self.url):
                answer.read()
            return failures.parsed(answer), answer.headers, answer.status_code

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0.0,
    ) -> Iterator[httpx.Response]:
        """An answer whose body is not read yet. `content` is sent as it is, `body` as JSON.

        Statuses other than 2xx and 304 raise a GridAppsError.
        """
        kind: dict[str, str] = {}
        if body is not None:
            content, kind = bodies.encoded(body), {"Content-Type": "application/json"}
        with failures.translated(self.url):
            request = self._http.build_request(
                method,
                path,
                params=params,
                content=content,
                headers={**(headers or {}), **kind},
                timeout=httpx.Timeout(self._timeout + patience, connect=min(self._timeout, 10.0)),
            )
        answer = self._send(request)
        try:
            yield answer
        finally:
            answer.close()

    def chunks(self, answer: httpx.Response) -> Iterator[bytes]:
        """The bytes of a streamed answer as they arrive. A broken connection raises Unreachable."""
        with failures.translated(self.url):
            yield from answer.iter_raw()

    def _send(self, request: httpx.Request) -> httpx.Response:
        renewed = False
        for pause in (*_PAUSES, None):
            if self._token:
                request.headers["Authorization"] = f"Bearer {self._token}"
            try:
                answer = self._attempt(request)
            except GridAppsError as error:
                if pause is None or not self._may_repeat(request, error):
                    raise
                time.sleep(pause)
                continue
            if answer.status_code == 401 and pause is not None and not renewed and self._renewed():
                renewed = True
                answer.close()
                continue
            if (
                answer.status_code in failures.AWAY
                and pause is not None
                and request.method in _SAFE_TO_REPEAT
            ):
                answer.close()
                time.sleep(max(pause, _retry_after(answer)))
                continue
            break
        if answer.is_success or (answer.status_code == 304 and "If-None-Match" in request.headers):
            return answer
        with failures.translated(self.url):
            answer.read()
        raise failures.of_answer(answer)

    def _attempt(self, request: httpx.Request) -> httpx.Response:
        with failures.translated(self.url):
            return self._http.send(request, stream=True)

    def _may_repeat(self, request: httpx.Request, error: GridAppsError) -> bool:
        # A refused connection sent nothing, so even a POST may be repeated.
        return error.code == "refused" or (
            error.code in failures.TRANSIENT and request.method in _SAFE_TO_REPEAT
        )

    def _renewed(self) -> bool:
        token = _checked(self._renew()) if self._renew else None
        if token is None or token == self._token:
            return False
        self._token = token
        return True


def connections(*, ca: str | Path | None, **options: Any) -> httpx.Client:
    """A pool of connections that trusts `ca`, or the system's authorities if it is None."""
    try:
        return httpx.Client(verify=trust(ca), **options)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise GridAppsError(
            f"No connection can be made with this address and the proxies of the environment "
            f"(HTTPS_PROXY, ALL_PROXY, NO_PROXY): {error}.",
            code="usage",
        ) from error


def trust(ca: str | Path | None) -> ssl.SSLContext:
    """A context that verifies against `ca` alone, or against the system's authorities if it is None."""
    try:
        if ca is None:
            return ssl.create_default_context()
        return ssl.create_default_context(cafile=str(ca))
    except FileNotFoundError as error:
        named = str(ca or error.filename)
        raise GridAppsError(f"There is no file {named!r} with a certificate authority.", code="ca") from None
    except (ssl.SSLError, OSError, ValueError) as error:
        if ca is None:  # SSLKEYLOGFILE, for example
            raise GridAppsError(f"TLS cannot be set up: {error}.", code="ca") from error
        raise GridAppsError(
            f"{str(ca)!r} cannot be read as a PEM file of a certificate authority ({error}).", code="ca"
        ) from error


def _checked(token: str | None) -> str | None:
    if token and not (token.isascii() and token.isprintable() and token.strip()):
        raise GridAppsError("The token is empty or contains invalid characters.", code="usage")
    return token


def _retry_after(answer: httpx.Response) -> float:
    value = answer.headers.get("Retry-After", "")
    return min(float(value), _LONGEST_RETRY_AFTER) if value.isascii() and value.isdigit() else 0.0
