"""The launcher's socket. Each connection has a thread, so a call that hangs does not block others."""

import errno
import fcntl
import logging
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from gridapps.launcher import channel
from gridapps.launcher.channel import Closed, Malformed
from gridapps.launcher.messages import LARGEST, AnyMessage, Message, Reply, named
from gridapps.launcher.service import Service
from gridapps.sandbox.protocol import NoSpace, SandboxError

logger = logging.getLogger(__name__)
_STACK = 512 * 1024  # bytes of a thread
_REQUEST = msgspec.json.Decoder(AnyMessage)
_PAUSE = 0.2  # seconds
_FULL = {errno.ENOSPC, errno.EDQUOT}


class AlreadyRuns(Exception):
    """Another launcher serves this socket. The text is a sentence."""


class Server:
    """Listens at `path`. Root and the account `owner` may connect."""

    def __init__(self, path: Path, *, owner: int, connections: int, service: Service) -> None:
        """`connections`: the maximum; further ones are closed."""
        self._path = path
        self._owner = owner
        self._service = service
        self._closing = False
        self._free = threading.BoundedSemaphore(connections)
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRuns(f"A launcher serves {path} already.") from None
        path.unlink(missing_ok=True)
        self._listener = channel.new_socket()
        self._listener.bind(str(path))
        if os.geteuid() == 0:
            os.chown(path, owner, -1)
        path.chmod(0o600)
        self._listener.listen(128)

    def close(self) -> None:
        """Make `serve` return. Safe in a signal handler and from another thread."""
        self._closing = True
        with suppress(OSError):  # `serve` may have closed it already
            self._listener.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Serve until `close`."""
        threading.stack_size(_STACK)
        try:
            while not self._closing:
                try:
                    connection, _ = self._listener.accept()
                except OSError as error:
                    if not self._closing:
                        logger.warning("No connection could be accepted: %s", error)
                        time.sleep(_PAUSE)  # the process may be out of descriptors
                else:
                    self._admit(connection)
        finally:
            self._path.unlink(missing_ok=True)
            self._listener.close()
            os.close(self._lock)

    def _admit(self, connection: socket.socket) -> None:
        uid = _peer(connection)
        if uid not in (0, self._owner):
            logger.warning("A connection of account %s was refused.", uid)
            connection.close()
        elif not self._free.acquire(blocking=False):
            logger.warning("A connection was refused: the limit is reached.")
            connection.close()
        else:
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        """Answer calls until the other side closes the connection or sends a malformed message."""
        try:
            with connection, suppress(Closed):
                while self._answer_one(connection):
                    pass
        except Exception:
            logger.exception("A connection failed.")
        finally:
            self._free.release()

    def _answer_one(self, connection: socket.socket) -> bool:
        """Receive and answer one call. False when the connection is to be closed."""
        descriptors: list[int] = []
        passed: int | None = None
        understood = False
        try:
            content, descriptors = channel.receive(connection)
            request = _decode(content)
            understood = True
            value, passed = self._service.carry_out(request, descriptors)
            reply = Reply(value=msgspec.Raw(msgspec.json.encode(value)))
        except Closed:
            return False
        except Exception as error:
            reply = _failure(error)
        finally:
            channel.close(descriptors)
        _send(connection, reply, passed)
        return understood


def _decode(content: bytes) -> Message:
    try:
        request: Message = _REQUEST.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    return request


def _failure(error: Exception) -> Reply:
    """The reply that reports an error."""
    match error:
        case Malformed():
            logger.warning("A malformed message was refused: %s", error)
            return Reply(error=ValueError.__name__, text=f"The launcher refused the message: {error}")
        case SandboxError() | ValueError():
            return Reply(error=named(error), text=str(error))
        case KeyError():
            return Reply(error="KeyError", text=str(error.args[0] if error.args else ""))
        case OSError() if error.errno in _FULL:
            return Reply(error=NoSpace.__name__, text=f"The node's disk is full ({error.filename}).")
    logger.error("A call failed", exc_info=error)
    text = f"The launcher failed with {type(error).__name__}; its log says more."
    return Reply(error=SandboxError.__name__, text=text)


def _send(connection: socket.socket, reply: Reply, passed: int | None) -> None:
    """Send the reply with the descriptor `passed`, which is closed. A large reply goes in a memory file."""
    descriptors = [] if passed is None else [passed]
    try:
        content = msgspec.json.encode(reply)
        if len(content) > LARGEST:
            descriptors.append(channel.memory_file(content))
            content = msgspec.json.encode(Reply(spilled=True))
        channel.send(connection, content, descriptors)
    finally:
        channel.close(descriptors)


def _peer(connection: socket.socket) -> int:
    """The account of the process that connected."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", found)
    return int(uid)
