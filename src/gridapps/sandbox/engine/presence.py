"""Noticing when the engine goes away or comes back: the stream of its events ends with the engine."""

import select
import socket
import time
from contextlib import suppress

from gridapps.sandbox.engine.client import open_socket

_REQUEST = b"GET /events?filters=%7B%22type%22%3A%5B%22daemon%22%5D%7D HTTP/1.0\r\nHost: engine\r\n\r\n"
_CONNECT = 5.0  # seconds
_PAUSE = 0.5  # seconds between two attempts to connect


class Presence:
    """Watches one engine. Not thread-safe."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stream: socket.socket | None = None
        self._lost = False  # the loss was reported, and the return not yet

    def changed(self, *, timeout: float) -> bool:
        """Whether the engine went away or came back. Waits up to `timeout` seconds for that."""
        end = time.monotonic() + timeout
        while self._stream is None:
            self._stream = self._open()
            if self._stream is not None and self._lost:
                self._lost = False
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
                self._lost = True
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
        try:
            stream = open_socket(self._address, seconds=_CONNECT)
        except OSError:
            return None
        with suppress(OSError):
            stream.sendall(_REQUEST)
            if stream.recv(1):
                stream.settimeout(None)
                return stream
        stream.close()
        return None
