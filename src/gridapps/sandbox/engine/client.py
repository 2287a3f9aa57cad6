"""HTTP to a container engine over a unix socket or TCP, by the standard library: one connection per call."""

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from typing import TypedDict, TypeVar, Unpack
from urllib.parse import urlencode, urlsplit

import msgspec

from gridapps.sandbox.engine.responses import EngineVersion, Failure
from gridapps.sandbox.protocol import SandboxError

T = TypeVar("T")


class NoAnswer(Exception):
    """The engine did not answer in time, or not with HTTP. The message says why."""


def open_socket(address: str, *, seconds: float) -> socket.socket:
    """A socket that is connected to the engine. Raises OSError."""
    if address.startswith("unix://"):
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(seconds)
        try:
            opened.connect(address.removeprefix("unix://"))
        except BaseException:
            opened.close()
            raise
        return opened
    parts = urlsplit(address)
    if parts.scheme not in {"tcp", "http"} or not parts.hostname or not parts.port:
        raise OSError("its address must be unix:///PATH or tcp://HOST:PORT")
    return socket.create_connection((parts.hostname, parts.port), seconds)


class Cutter:
    """Ends an exchange with the engine from another thread, also while the engine sends nothing."""

    def __init__(self) -> None:
        self.is_cut = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def attach(self, opened: socket.socket) -> None:
        """The connection to end. Raises OSError if it should have ended already."""
        with self._lock:
            self._socket = opened
            if self.is_cut:
                raise OSError("the call was given up")

    def cut(self) -> None:
        """End the present exchange, and every later one."""
        with self._lock:
            self.is_cut = True
            if self._socket is not None:
                with suppress(OSError):  # it has ended already
                    self._socket.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: str, *, seconds: float) -> None:
        super().__init__(urlsplit(address).netloc or "localhost", timeout=seconds)
        self._address = address
        self._seconds = seconds

    def connect(self) -> None:
        self.sock = open_socket(self._address, seconds=self._seconds)


@dataclass(frozen=True)
class Response:
    """The engine's response to one call."""

    call: str
    status: int
    headers: Message
    body: bytes

    @property
    def failed(self) -> bool:
        return self.status >= 400

    @property
    def text(self) -> str:
        """The engine's explanation of a failure, for people only."""
        return explanation(self.body)

    def decoded(self, kind: type[T]) -> T:
        """The body. Raises SandboxError if it is not of this kind."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.MsgspecError as error:
            raise SandboxError(
                f"The response of the container engine to {self.call} was not understood: {error}"
            ) from error


def explanation(body: bytes) -> str:
    """The message of an error response, or the whole body if it has none."""
    try:
        return msgspec.json.decode(body, type=Failure).message
    except msgspec.MsgspecError:
        return body.decode(errors="replace").strip()


def read_lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines of a response as they arrive. Raises if it is cut off; `response.readline` does not."""
    rest = b""
    while chunk := response.read1():
        *complete, rest = (rest + chunk).split(b"\n")
        yield from complete
    yield rest


class Parts(TypedDict, total=False):
    """The optional parts of a request."""

    query: Mapping[str, str]
    body: bytes
    headers: Mapping[str, str]
    cutter: Cutter


class Client:
    """One engine. Thread-safe. Every call raises NoAnswer."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._version = ""  # of the API; "" until the engine was asked

    def call(self, method: str, path: str, *, seconds: float, **parts: Unpack[Parts]) -> Response:
        """Ask the engine. `seconds` limits each wait for it."""
        with self.stream(method, path, seconds=seconds, **parts) as response:
            return Response(f"{method} {path}", response.status, response.headers, response.read())

    @contextmanager
    def stream(
        self, method: str, path: str, *, seconds: float, **parts: Unpack[Parts]
    ) -> Iterator[http.client.HTTPResponse]:
        """The response, to be read as it arrives. The connection is closed at the end."""
        target = f"/v{self._api_version(seconds)}{path}"
        if "query" in parts:
            target += f"?{urlencode(parts['query'])}"
        with self._exchange(method, target, seconds, parts) as response:
            yield response

    def _api_version(self, seconds: float) -> str:
        """The newest that the engine speaks. Asked again after a failure: it may be another engine."""
        version = self._version
        if not version:
            with self._exchange("GET", "/version", seconds, {}) as response:
                answer = Response("GET /version", response.status, response.headers, response.read())
            if answer.failed:
                raise NoAnswer(f"status {answer.status}")
            version = self._version = answer.decoded(EngineVersion).api_version
        return version

    @contextmanager
    def _exchange(
        self,
        method: str,
        target: str,
        seconds: float,
        parts: Parts,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _Connection(self.address, seconds=seconds)
        try:
            connection.connect()
            if "cutter" in parts:
                parts["cutter"].attach(connection.sock)
            connection.request(method, target, parts.get("body"), dict(parts.get("headers", {})))
            with connection.getresponse() as response:
                yield response
        except (OSError, http.client.HTTPException) as error:
            self._version = ""
            raise NoAnswer(str(error) or type(error).__name__) from error
        finally:
            connection.close()
