"""A receiver of hooks: a real HTTPS server, whose paths select its behaviour."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gridapps.pki.authority import Authority


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def told(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A running receiver. `ca` is the file of the CA that issued its certificate."""

    port: int
    ca: str
    requests: list[Received] = field(default_factory=list)
    most_at_once: int = 0
    scheme: str = "https"
    release: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/ok", host: str = "localhost") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def wait_for(self, count: int, *, seconds: float = 120) -> list[Received]:
        """Wait for this many requests; the requests."""
        until = time.monotonic() + seconds
        while len(self.requests) < count:
            assert time.monotonic() < until, f"{len(self.requests)} of {count} requests came"
            time.sleep(0.02)
        return list(self.requests)


@contextmanager
def receiving(directory: Path, *, address: str = "127.0.0.1", tls: bool = True) -> Iterator[Receiver]:
    """A receiver on a free port of `address`."""
    Authority.create_or_load(directory, host="localhost")
    mine = Receiver(0, str(directory / "ca.crt"), scheme="https" if tls else "http")
    handler = type("Handler", (_Handler,), {"receiver": mine, "running": 0, "guard": threading.Lock()})
    server = ThreadingHTTPServer((address, 0), handler)
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(directory / "server.crt", directory / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.daemon_threads = True
    server.block_on_close = False
    mine.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield mine
    finally:
        mine.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    running: int
    guard: threading.Lock
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        mine, kind = self.receiver, type(self)
        with self.guard:
            kind.running += 1
            mine.most_at_once = max(mine.most_at_once, kind.running)
            mine.requests.append(Received(self.path, dict(self.headers.items()), body, time.monotonic()))
        try:
            with suppress(OSError):  # the client may have closed the connection
                self._behave(self.path.strip("/").split("/"))
        finally:
            with self.guard:
                kind.running -= 1

    def _behave(self, how: list[str]) -> None:
        seen = sum(request.path == self.path for request in self.receiver.requests)
        if how[0] == "status":
            self._answer(int(how[1]))
        elif how[0] == "fails":  # this many times
            self._answer(500 if seen <= int(how[1]) else 200)
        elif how[0] == "redirect":
            self._answer(307, Location="/ok")
        elif how[0] == "held":  # until the test releases it
            self.receiver.release.wait(600)
            self._answer(200)
        elif how[0] == "endless":
            self.send_response(200)
            self.send_header("Content-Length", str(10**12))
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 65536)
        elif how[0] == "drops":  # an endless header, byte by byte
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.receiver.release.wait(0.1):
                self.wfile.write(b"x")
        elif how[0] == "nonsense":
            self.wfile.write(b"\x00\xff no http\r\n\r\n")
            self.close_connection = True
        else:
            self._answer(200)

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""
