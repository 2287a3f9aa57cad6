"""Whether the engine is still the same one: an open stream of its events ends at once when it does."""

import contextlib
import select
import socket
import time
from urllib.parse import urlsplit

_REQUEST = b"GET /events?filters=%7B%22type%22%3A%5B%22daemon%22%5D%7D HTTP/1.0\r\nHost: engine\r\n\r\n"
_CONNECT = 5.0  # seconds
_PAUSE = 0.5  # seconds between two tries to connect


class Presence:
    """Watches one engine. For one thread."""

    def __init__(self, address: str) -> None:
        self._address = urlsplit(address)
        self._stream: socket.socket | None = None
        self._missed = False  # the loss was told, and its return not yet

    def changed(self, *, timeout: float) -> bool:
        """Whether the engine went away or came back. Waits up to `timeout` seconds for that."""
        end = time.monotonic() + timeout
        while self._stream is None:
            self._stream = self._open()
            if self._stream is not None and self._missed:
                self._missed = False
                return True
            if self._stream is None:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(min(_PAUSE, left))
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self._stream], [], [], left)
            if readable and not self._more(self._stream):
                self.close()
                self._missed = True
                return True
        return False

    def close(self) -> None:
        """Close the stream; the next call opens a new one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @staticmethod
    def _more(stream: socket.socket) -> bool:
        try:
            return bool(stream.recv(65536))
        except OSError:
            return False

    def _open(self) -> socket.socket | None:
        family = socket.AF_UNIX if self._address.scheme == "unix" else socket.AF_INET
        place = (
            self._address.path if family == socket.AF_UNIX else (self._address.hostname, self._address.port)
        )
        stream = socket.socket(family)
        try:
            stream.settimeout(_CONNECT)
            stream.connect(place)
            stream.sendall(_REQUEST)
            if stream.recv(1):
                stream.settimeout(None)
                return stream
        except OSError:
            pass
        with contextlib.suppress(OSError):
            stream.close()
        return None
