"""The sandbox for the worker: each call is a message to the launcher."""

import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from gridapps.launcher import channel, messages
from gridapps.launcher.messages import ERRORS, LONGEST_WAIT, Message, Reply
from gridapps.sandbox import diagnosis
from gridapps.sandbox.protocol import (
    Ended,
    EngineUnavailable,
    Launch,
    NodeRefused,
    PullProgress,
    RegistryUnavailable,
    Resident,
    SandboxError,
)

T = TypeVar("T")
_LARGEST_REPLY = 64 * 1024**2  # bytes
_REPLY = msgspec.json.Decoder(Reply)


class RemoteSandbox:
    """Implements `protocol.Sandbox`. Reconnects after a restart of the launcher."""

    def __init__(self, path: Path, *, connections: int) -> None:
        """`connections`: the maximum; further calls wait."""
        self._path = path
        self._idle: list[socket.socket] = []
        self._guard = threading.Lock()
        self._free = threading.BoundedSemaphore(connections)

    def close(self) -> None:
        """Close the idle connections; the next call opens a new one."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def check(self) -> None:
        self._call(messages.Check(), type(None))

    def version(self) -> str:
        return self._call(messages.Version(), str)

    def held(self) -> int:
        return self._call(messages.Held(), int)

    def engine_changed(self, *, timeout: float) -> bool:
        return self._call(messages.Changed(timeout=min(timeout, LONGEST_WAIT)), bool)

    def pull(self, image: str, *, token: str, timeout: float) -> PullProgress | None:
        request = messages.Pull(image=image, token=token, timeout=min(timeout, LONGEST_WAIT))
        try:
            return self._call(request, PullProgress | None)  # type: ignore[arg-type]
        except RegistryUnavailable as error:
            host = image.partition("/")[0]
            if diagnosis.distrusts(host):  # the launcher has no network, so it cannot check
                text = f"This node does not trust the certificate of the registry {host}."
                raise NodeRefused(text) from error
            raise

    def layers(self, image: str) -> Mapping[str, int] | None:
        return self._call(messages.Layers(image=image), dict[str, int] | None)  # type: ignore[arg-type]

    def drop(self, image: str) -> bool:
        return self._call(messages.Drop(image=image), bool)

    def start(self, launch: Launch) -> None:
        request = messages.Start(
            name=launch.name,
            image=launch.image,
            input_name=launch.input_name,
            run=launch.run,
            task=launch.task,
            limits=launch.limits,
            deadline=launch.deadline,
            labels=dict(launch.labels),
        )
        source = _open_input(launch.input)
        try:
            given = [channel.memory_file(launch.arguments)]
            try:
                given.append(channel.memory_file(msgspec.json.encode(launch.entry)))
                self._call(request, type(None), [source, *given])
            finally:
                channel.close(given)
        finally:
            os.close(source)

    def wait(self, name: str, *, timeout: float) -> Ended | None:
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            request = messages.Wait(name=name, timeout=min(left, LONGEST_WAIT))
            ended = self._call(request, Ended | None)  # type: ignore[arg-type]
            if ended is not None or left <= LONGEST_WAIT:
                return ended

    def stop(self, name: str, *, grace: float) -> None:
        self._call(messages.Stop(name=name, grace=grace), type(None))

    def log(self, name: str) -> int | None:
        return self._descriptor(messages.Log(name=name))

    def outputs(self, name: str) -> int:
        descriptor = self._descriptor(messages.Outputs(name=name))
        if descriptor is None:
            raise SandboxError(f"The launcher gave no descriptor of the outputs of {name}.")
        return descriptor

    def remove(self, name: str) -> None:
        self._call(messages.Remove(name=name), type(None))

    def residents(self, *, labels: Mapping[str, str]) -> list[Resident]:
        return self._call(messages.Residents(labels=dict(labels)), list[Resident])

    def _call(self, request: Message, returns: type[T], descriptors: list[int] | None = None) -> T:
        reply, passed = self._exchange(request, descriptors or [])
        channel.close(passed)
        return msgspec.json.decode(reply.value, type=returns)

    def _descriptor(self, request: Message) -> int | None:
        _, passed = self._exchange(request, [])
        channel.close(passed[1:])
        return passed[0] if passed else None

    def _exchange(self, request: Message, descriptors: list[int]) -> tuple[Reply, list[int]]:
        """Send a message; returns the reply with its descriptors. Raises the error that the reply names."""
        try:
            with self._free:
                content, passed = self._converse(msgspec.json.encode(request), descriptors)
        except channel.Malformed as error:
            raise ValueError(str(error)) from None
        except (channel.Closed, OSError) as error:
            self.close()  # the other connections lead to the same launcher
            raise EngineUnavailable(
                f"The launcher at {self._path} does not answer ({error}). Is it running?"
            ) from error
        reply = _REPLY.decode(content)
        if reply.spilled:
            reply = _REPLY.decode(channel.content_of(passed[-1], limit=_LARGEST_REPLY))
            channel.close([passed.pop()])
        if reply.error:
            channel.close(passed)
            raise ERRORS.get(reply.error, SandboxError)(reply.text)
        return reply, passed

    def _converse(self, content: bytes, descriptors: list[int]) -> tuple[bytes, list[int]]:
        connection = self._sent(content, descriptors)
        try:
            reply = channel.receive(connection)
        except BaseException:
            connection.close()
            raise
        with self._guard:
            self._idle.append(connection)
        return reply

    def _sent(self, content: bytes, descriptors: list[int]) -> socket.socket:
        """Send the message on an idle connection, or on a new one if the launcher has closed the idle one. A
        message that was sent is not repeated, because the launcher may have acted on it."""
        with self._guard:
            idle = self._idle.pop() if self._idle else None
        if idle is not None:
            try:
                channel.send(idle, content, descriptors)
            except channel.Closed:
                idle.close()
                self.close()
            else:
                return idle
        connection = channel.new_socket()
        try:
            connection.connect(str(self._path))
            channel.send(connection, content, descriptors)
        except BaseException:
            connection.close()
            raise
        return connection


def _open_input(path: Path) -> int:
    """Opens with O_NONBLOCK, so that a pipe does not block. The launcher accepts only a regular file."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError(f"The input file {path} is not on this node: {error.strerror}.") from None
