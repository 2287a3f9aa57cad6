"""Finding out why the engine failed, from the state of disk and registry and not from the text of the error.

The text may contain names and values that the author of an image has chosen.
"""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

_NEARLY_FULL = 64 * 1024**2  # bytes; a write that fails for lack of space leaves less
_LOOK = 0.02  # seconds between two checks of the disk
_CONNECT = 10.0  # seconds
_CERTIFICATES = Path("/etc/docker/certs.d")


class DiskWatch:
    """Whether the disk below a directory was full at any time while it was watched."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._done = threading.Event()
        self.was_full = False

    def look(self) -> None:
        """Check the disk once. A directory that is on another machine counts as not full."""
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return
        bytes_gone = found.f_bfree * found.f_frsize < _NEARLY_FULL
        self.was_full |= bytes_gone or (found.f_files > 0 and found.f_ffree == 0)

    def _watch(self) -> None:
        while not self._done.wait(_LOOK):
            self.look()

    @contextlib.contextmanager
    def watched(self) -> Iterator["DiskWatch"]:
        """Check continually: an engine that fails to unpack an image removes it, which frees the disk
        again."""
        thread = threading.Thread(target=self._watch, name="disk-watch", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.look()
            self._done.set()
            thread.join()


def is_full(directory: Path) -> bool:
    """Whether the disk is full now."""
    disk = DiskWatch(directory)
    disk.look()
    return disk.was_full


def distrusts(host: str) -> bool:
    """Whether the engine of this machine rejects the certificate of a registry.

    `host` is a name with an optional port. False for a registry that does not answer, or not with TLS.
    """
    name, _, port = host.rpartition(":") if ":" in host else (host, "", "443")
    context = ssl.create_default_context()
    for certificate in sorted((_CERTIFICATES / host).glob("*.crt")):
        context.load_verify_locations(certificate)
    try:
        with (
            socket.create_connection((name, int(port)), timeout=_CONNECT) as connection,
            context.wrap_socket(connection, server_hostname=name),
        ):
            return False
    except ssl.SSLCertVerificationError:
        return True
    except (OSError, ValueError):
        return False
