"""POSTs to untrusted targets: to checked addresses only, in bounded time, reading little of the answer.

Uses httpcore, below httpx, because its network backend chooses the address: the name is resolved once, and
the connection goes to an address that was checked. There are no proxies, redirects or retries here.
"""

import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpcore

from gridapps.hooks.targets import Rules

LARGEST_ANSWER = 4096  # bytes of a body that are read, and discarded


# The same sentence for a name that does not resolve, a refused address, and an internal address that does not
# answer, so that users cannot probe the operator's network.
NOT_REACHED = (
    "The target was not reached. Its name must resolve to an address that hooks may reach, and a web server "
    "with a trusted certificate must answer there in time."
)


class ForbiddenAddress(Exception):
    """The target leads to an address that hooks must not reach."""


@dataclass(frozen=True)
class Outcome:
    """The result of a try: a status, or the sentence of an error. `detail` is for the operator's log."""

    status: int | None = None
    error: str = ""
    detail: str = ""


class Poster:
    """Posts to targets. Safe to share between threads: each POST has a connection of its own."""

    def __init__(self, *, rules: Rules, timeout: float, ca: str = "") -> None:
        self._rules = rules
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=ca or None)

    def post(self, target: str, *, headers: dict[str, str], body: bytes) -> Outcome:
        """POST the body; every failure is an outcome."""
        network = _Network(self._rules, until=time.monotonic() + self._timeout)
        try:
            with (
                httpcore.ConnectionPool(
                    ssl_context=self._tls, network_backend=network, max_connections=1
                ) as pool,
                pool.stream(
                    "POST", target, headers=list(headers.items()), content=body,
                    extensions={"timeout": {"pool": self._timeout}},  # _Network enforces the time limit
                ) as answer,
            ):  # fmt: skip
                return _judge(answer)
        except ForbiddenAddress as error:
            found = str(error)
        except (httpcore.TimeoutException, TimeoutError):
            found = f"No whole answer came within {self._timeout:g} s."
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as error:
            found = _sentence(error)
        return Outcome(error=found if network.public else NOT_REACHED, detail=found)


def _judge(answer: httpcore.Response) -> Outcome:
    read = 0
    for chunk in answer.iter_stream():
        read += len(chunk)
        if read > LARGEST_ANSWER:
            break  # the status is known, and the body is not needed
    if 200 <= answer.status < 300:
        return Outcome(answer.status)
    if 300 <= answer.status < 400:
        return Outcome(answer.status, "It answered with a redirect, and those are not followed.")
    return Outcome(answer.status, f"It answered with {answer.status}.")


def _sentence(error: Exception) -> str:
    """Why there was no answer, without internal messages of libraries."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"Its certificate cannot be trusted: {cause.verify_message}."
        if isinstance(cause, ssl.SSLError):
            return "It does not speak TLS as expected."
        if isinstance(cause, socket.gaierror):
            return "Its name cannot be resolved."
        if isinstance(cause, ConnectionRefusedError):
            return "It refused the connection."
        cause = cause.__cause__ or cause.__context__
    return "The connection broke, or the answer was not HTTP."


class _Network(httpcore.NetworkBackend):
    """Connects to checked addresses only, and enforces a deadline."""

    def __init__(self, rules: Rules, *, until: float) -> None:
        self._rules = rules
        self._until = until
        self._sockets = httpcore.SyncBackend()
        self.public = False  # whether the name resolved to public addresses only

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the moment counts for everything together
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        allowed = [str(each[4][0]) for each in found if self._rules.allow(str(each[4][0]))]
        if not allowed:
            raise ForbiddenAddress("It leads to an address that hooks must not reach.")
        self.public = len(allowed) == len(found) and all(map(self._rules.public, allowed))
        failure: Exception = ConnectionRefusedError()
        for address in dict.fromkeys(allowed):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, _left(self._until), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self._until)
        raise failure


class _Stream(httpcore.NetworkStream):
    """A connection whose reads and writes all end before the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, until: float) -> None:
        self._stream = stream
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _left(self._until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _left(self._until))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._until))
        return _Stream(stream, self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is up")
    return left
