"""The container engine's API, as little of it as is needed, with its failures in the protocol's words."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

from gridapps.sandbox.protocol import (
    EngineUnavailable,
    ImageGone,
    ImageUnavailable,
    NameTaken,
    NodeRefused,
    NoSpace,
    RegistryUnavailable,
    SandboxError,
)

_TIMEOUT = 120  # seconds for one answer; an engine under load takes several
_REFUSED = (
    *("manifest unknown", "not found", "no matching manifest", "unsupported", "name unknown"),
    "invalid reference",
    # What the image itself is to blame for, on every node.
    *("verification failed", "invalid tar header", "cannot unmarshal", "invalid diffid"),
    *("processing tar file(exit status", "duplicates of file paths"),
)
_CREDENTIALS = (
    *("unauthorized", "denied", "no basic auth", "authentication required", "certificate required"),
    *("x509:", "tls: "),
)
_AWAY = (
    *("connection refused", "connection reset", "broken pipe", "unexpected eof", ": eof", "timeout"),
    *("deadline exceeded", "bad gateway", "service unavailable", "internal server error", "unreachable"),
    *("no route to host", "no such host", "server misbehaving"),
)
_CLOSING = (
    "transport is closing",
    "code = unavailable",
    "connection error",
    "shutting down",
    "containerd.sock",
)


class Engine:
    """One engine. Connects at the first call and again after each loss."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: docker.APIClient | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    @contextmanager
    def _call(self) -> Iterator[docker.APIClient]:
        try:
            with self._lock:
                if self._client is None:
                    self._client = docker.APIClient(
                        base_url=self.address, version="auto", timeout=_TIMEOUT, max_pool_size=32
                    )
                client = self._client
            yield client
        except APIError as error:
            if "no space left on device" in str(error):
                raise NoSpace("The engine's disk is full.") from error
            raise
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as error:  # APIError is one of them: it stands above
            raise EngineUnavailable(self._silence(error)) from error
        except DockerException as error:  # of the first contact
            raise EngineUnavailable(self._silence(error)) from error

    def _silence(self, error: Exception) -> str:
        return f"The container engine at {self.address} does not answer ({error}). Is it running?"

    def info(self) -> dict[str, Any]:
        with self._call() as client:
            return dict(client.info())

    def version(self) -> str:
        with self._call() as client:
            return f"{client.version()['Version']}"

    def image(self, reference: str) -> dict[str, Any] | None:
        """The image's description, or None when the node does not have it."""
        try:
            with self._call() as client:
                return dict(client.inspect_image(reference))  # type: ignore[no-untyped-call]
        except NotFound:
            return None
        except APIError as error:
            raise _failed("describe the image", error) from error

    def pull(self, reference: str, *, token: str) -> None:
        """Raises ImageUnavailable when there is no such image, RegistryUnavailable when the registry is
        silent, NodeRefused when it does not take the credentials."""
        credentials = {"registrytoken": token} if token else {}
        try:
            with self._call() as client:
                steps = client.pull(reference, stream=True, decode=True, auth_config=credentials)
                for step in steps:
                    if "error" in step:
                        raise _refused_or_failed(reference, str(step["error"]))
        except APIError as error:
            raise _refused_or_failed(reference, str(error.explanation)) from error

    def history(self, reference: str) -> list[dict[str, Any]]:
        """The steps that the image was built in, the newest first; none when the node does not have it."""
        try:
            with self._call() as client:
                return list(client.history(reference))  # type: ignore[no-untyped-call]
        except NotFound:
            return []
        except APIError as error:
            raise _failed("describe the image", error) from error

    def drop_image(self, reference: str) -> bool:
        """Remove the reference, and the image if that was its last one. False when a container has it."""
        try:
            with self._call() as client:
                image = client.inspect_image(reference)["Id"]  # type: ignore[no-untyped-call]
                users = client.containers(all=True, filters={"ancestor": [image]})
                # The engine looks itself, but only at the last of an image's references.
                if any(user["ImageID"] == image for user in users):
                    return False
                # What the image was built on here, by whoever did that, stays.
                client.remove_image(reference, noprune=True)
        except NotFound:
            return True
        except APIError as error:
            if error.status_code == 409:
                return False
            raise _failed("remove the image", error) from error
        return True

    def create(self, name: str, configuration: Mapping[str, Any]) -> str:
        """The id of a new container. Raises NameTaken, ImageGone."""
        try:
            with self._call() as client:
                body = dict(configuration)
                made = client.create_container_from_config(body, name)  # type: ignore[no-untyped-call]
                return str(made["Id"])
        except NotFound as error:
            raise ImageGone(f"The image is gone from this node: {error.explanation}") from error
        except APIError as error:
            if error.status_code == 409:
                raise NameTaken(f"A container named {name} exists already.") from error
            raise _failed("create the container", error) from error

    def start(self, container: str) -> None:
        """Raises ImageUnavailable when the image's own files stand in the way of the start."""
        try:
            with self._call() as client:
                client.start(container)
        except APIError as error:
            text = str(error.explanation)
            if "error mounting" in text and "to rootfs" in text:
                raise ImageUnavailable(
                    f"The image has something else where a mount belongs: {text}"
                ) from error
            raise _failed("start the container", error) from error

    def container(self, name: str) -> dict[str, Any] | None:
        try:
            with self._call() as client:
                return dict(client.inspect_container(name))
        except NotFound:
            return None
        except APIError as error:
            raise _failed("describe the container", error) from error

    def kill(self, name: str, signal: str) -> None:
        """Send a signal to the first process. A container that is gone or ended is no error."""
        try:
            with self._call() as client:
                client.kill(name, signal)
        except APIError as error:
            if error.status_code not in {404, 409}:
                raise _failed("signal the container", error) from error

    def remove(self, name: str) -> None:
        """Idempotent; ends the container if it still runs."""
        try:
            with self._call() as client:
                client.remove_container(name, v=True, force=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409 or "already in progress" not in str(error.explanation):
                raise _failed("remove the container", error) from error

    def containers(self, label: str) -> list[dict[str, Any]]:
        """Those with this label, running or not."""
        try:
            with self._call() as client:
                return list(client.containers(all=True, filters={"label": [label]}))
        except APIError as error:
            raise _failed("list the containers", error) from error


def _failed(what: str, error: APIError) -> SandboxError:
    text = f"The engine could not {what}: {error.explanation or error}"
    if any(word in text.lower() for word in _CLOSING):
        return EngineUnavailable(text)  # one of its own parts has died, or it is about to
    return SandboxError(text)


def _refused_or_failed(reference: str, text: str) -> SandboxError:
    # An App may be named like an error.
    lower = text.lower().replace(reference.partition("@")[0].partition("/")[2], "")
    if "no space left on device" in lower:
        return NoSpace("The engine's disk has no room for the image.")
    if any(word in lower for word in _CLOSING):
        return EngineUnavailable(f"The engine cannot pull now: {text}")
    # A layer that is broken in itself ends too early as well, every time.
    if any(word in lower for word in _AWAY) and "layer" not in lower:
        return RegistryUnavailable(f"The registry does not answer the engine: {text}")
    if any(word in lower for word in _CREDENTIALS):
        return NodeRefused(f"The registry refuses this node: {text}")
    if any(word in lower for word in _REFUSED):
        return ImageUnavailable(f"The registry refused the image {reference}: {text}")
    return SandboxError(f"The image {reference} could not be pulled: {text}")
