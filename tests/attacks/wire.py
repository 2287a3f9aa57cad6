"""Sends bytes that no HTTP library would send, and reads the responses."""

import contextlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

from tests.fixtures.instance import Instance

PATIENCE = 60.0  # seconds for an answer on a busy machine


@dataclass(frozen=True)
class Answer:
    """One answer of a connection. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


@dataclass(frozen=True)
class Wire:
    """The one TLS port of an instance. `certificate` is a directory with client.cert and client.key."""

    instance: Instance
    certificate: Path | None = None

    def plain(self) -> socket.socket:
        """A TCP connection without TLS. Close it."""
        return socket.create_connection((self._host, int(self.instance.settings["GRIDAPPS_PORT"])), PATIENCE)

    def connect(self) -> ssl.SSLSocket:
        """A TLS connection. Close it."""
        return self.context().wrap_socket(self.plain(), server_hostname=self._host)

    def context(self) -> ssl.SSLContext:
        """A context that trusts only the instance, with the certificate."""
        made = ssl.create_default_context(cafile=str(self.instance.ca))
        if self.certificate is not None:
            made.load_cert_chain(self.certificate / "client.cert", self.certificate / "client.key")
        return made

    @property
    def _host(self) -> str:
        return self.instance.settings.get("GRIDAPPS_HOST", "localhost")

    def exchange(self, *pieces: bytes, methods: Sequence[str] = ("GET",)) -> list[Answer]:
        """Send pieces one after the other, and read every answer until the other side closes.

        `methods` are those of the requests, because the response to HEAD has no body. Send
        `Connection: close` with the last request: a connection that stays open is read for PATIENCE seconds.
        """
        with self.connect() as secure:
            with contextlib.suppress(OSError):  # it may close while a request that is too large is sent
                for piece in pieces:
                    secure.sendall(piece)
            received = _read(secure)
        return parsed(received, methods)

    def status(self, *pieces: bytes, method: str = "GET") -> int:
        """The status of the first answer, or 0 when the connection closes without one."""
        answers = self.exchange(*pieces, methods=(method,))
        return answers[0].status if answers else 0


def request(
    path: str,
    *headers: str,
    method: str = "GET",
    host: str = "localhost",
    body: bytes = b"",
    version: str = "HTTP/1.1",
) -> bytes:
    """A request that ends the connection. Headers are whole lines; `path` may be anything in Latin-1."""
    lines = [f"{method} {path} {version}", f"Host: {host}", "Connection: close", *headers]
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def parsed(received: bytes, methods: Sequence[str] = ("GET",)) -> list[Answer]:
    """The responses in the bytes of a connection, up to the first that is not HTTP."""
    stream = _Stream(received)
    answers: list[Answer] = []
    while stream.left():
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        response = HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
            body = response.read()
        except Exception as error:
            answers.append(Answer(0, {}, repr(error).encode()))
            break
        headers = {name.lower(): value for name, value in response.getheaders()}
        answers.append(Answer(response.status, headers, body))
    return answers


@dataclass
class _Stream:
    """Received bytes in the form of a socket, for the standard library's parser."""

    content: bytes
    position: int = field(default=0, init=False)

    def left(self) -> int:
        return len(self.content) - self.position

    def makefile(self, *_: object) -> "_Stream":
        return self

    def readline(self, size: int = -1) -> bytes:
        end = self.content.find(b"\n", self.position) + 1 or len(self.content)
        return self.read(min(end - self.position, size) if size >= 0 else end - self.position)

    def read(self, size: int | None = None) -> bytes:
        end = len(self.content) if size is None or size < 0 else self.position + size
        found = self.content[self.position : end]
        self.position += len(found)
        return found

    def readinto(self, buffer: memoryview) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def flush(self) -> None: ...
    def close(self) -> None: ...


def _read(secure: ssl.SSLSocket) -> bytes:
    received = b""
    with contextlib.suppress(OSError):
        while piece := secure.recv(65536):
            received += piece
    return received
