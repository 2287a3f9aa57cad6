"""Messages with descriptors over a unix socket of type SEQPACKET: each is received whole or refused."""

import fcntl
import os
import socket
from contextlib import suppress

from gridapps.launcher.messages import LARGEST, MAX_DESCRIPTORS

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


class Malformed(Exception):
    """A message that is too long, or carries something unexpected. The text is a sentence."""


class Closed(Exception):
    """The other side has closed the connection."""


def new_socket() -> socket.socket:
    """A socket of the type that the launcher uses."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def send(connection: socket.socket, content: bytes, descriptors: list[int]) -> None:
    """Send one message. Raises Closed, and Malformed when it is too long."""
    if len(content) > LARGEST:
        raise Malformed(f"A message has at most {LARGEST} bytes.")
    try:
        socket.send_fds(connection, [content], descriptors)
    except OSError as error:
        raise Closed(error.strerror or type(error).__name__) from None


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """The next message with its descriptors, which the caller closes. Raises Closed, Malformed."""
    try:
        content, descriptors, flags, _ = socket.recv_fds(
            connection, LARGEST + 1, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except OSError as error:
        raise Closed(error.strerror or type(error).__name__) from None
    if not content:
        close(descriptors)
        raise Closed("The connection was closed.")
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(content) > LARGEST:
        close(descriptors)
        raise Malformed(
            f"A message has at most {LARGEST} bytes and {MAX_DESCRIPTORS} descriptors: this one has more."
        )
    return content, descriptors


def memory_file(content: bytes) -> int:
    """A descriptor of a sealed file in memory with this content: it cannot be changed."""
    descriptor = os.memfd_create("gridapps", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def content_of(descriptor: int, *, limit: int) -> bytes:
    """The content of a sealed memory file. Raises Malformed for another file, or one above `limit` bytes."""
    try:
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # not a memory file
        sealed = False
    if not sealed:
        raise Malformed("Expected a sealed memory file.")
    size = os.fstat(descriptor).st_size
    if size > limit:
        raise Malformed(f"The memory file has {size} bytes; the limit is {limit} bytes.")
    return os.pread(descriptor, size, 0)


def close(descriptors: list[int]) -> None:
    """Close all of them."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
