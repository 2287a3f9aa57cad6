"""The container engine's API, as little of it as is needed, with its failures in the protocol's words.

Every call has a time limit. A failure is classified by the status of the answer and by the state of engine,
disk and registry (`diagnosis`), never by its text: authors of images can write into that.
"""

import base64
import contextlib
import io
import json
import re
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

from gridapps.sandbox import diagnosis
from gridapps.sandbox.protocol import (
    ContainerStuck,
    EngineUnavailable,
    ImageGone,
    ImageUnavailable,
    NameTaken,
    NodeRefused,
    NoSpace,
    SandboxError,
    Unavailable,
    Unexplained,
)

# Seconds for one answer. An engine under load takes several.
LOOK = 20  # what only reads
ACT = 60  # what creates, starts, signals or removes
PULL = 300  # between two steps of a pull
_LONGEST_PULL = 3600.0  # seconds for a whole pull
_PAUSES = (1.0, 4.0)  # seconds between tries of a pull that fails while everything is well
_NO_SUCH_DIGEST = "sha256:" + "0" * 64
_NO_TOKEN = re.compile(r'\w+ "[^" ]+": (?P<words>(unauthorized|denied): .*)', re.DOTALL)
_Broken = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, DockerException)


class Engine:
    """One engine. Connects at the first call and again after each loss."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._clients: dict[int, docker.APIClient] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, seconds: int) -> docker.APIClient:
        with self._lock:
            if seconds not in self._clients:
                self._clients[seconds] = docker.APIClient(
                    base_url=self.address, version="auto", timeout=seconds, max_pool_size=32
                )
            return self._clients[seconds]

    @contextmanager
    def _call(self, seconds: int = 0, *, container: str = "") -> Iterator[docker.APIClient]:
        """A client whose calls take `seconds` at most (0: LOOK). `container` is what the call is about, if it
        is about one: an engine that holds one container still answers about everything else."""
        seconds = seconds or LOOK
        try:
            yield self._client(seconds)
        except APIError:
            raise
        except _Broken as error:
            if container and self._answers():
                raise ContainerStuck(
                    f"The engine answers, but not about the container {container} within {seconds} s."
                ) from error
            raise EngineUnavailable(self._silence(error)) from error

    def _silence(self, error: Exception) -> str:
        return f"The container engine at {self.address} does not answer ({error}). Is it running?"

    def _answers(self) -> bool:
        try:
            self._client(LOOK).ping()
        except _Broken:
            return False
        return True

    def check_well(self) -> None:
        """Raise EngineUnavailable unless engine and containerd answer, NoSpace if its disk is full."""
        info = self.info()
        if (info.get("ContainerdCommit") or {}).get("ID") in {None, "", "N/A"}:
            raise EngineUnavailable(f"The container engine at {self.address} has lost its containerd.")
        root = info.get("DockerRootDir")
        if root and diagnosis.is_full(Path(root)):
            raise NoSpace(f"The disk of the container engine ({root}) is full.")

    def _failed(self, what: str, error: APIError) -> SandboxError:
        """The failure of a call, from the status and the engine's state."""
        text = f"The engine could not {what}: {error.explanation or error}"
        if error.status_code is not None and error.status_code < 500:
            return SandboxError(text)
        try:
            self.check_well()
        except SandboxError as state:
            return state
        return Unexplained(text)

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
            raise self._failed("describe the image", error) from error

    def pull(self, reference: str, *, token: str) -> None:
        """Raises ImageUnavailable when there is no such image or it cannot be unpacked, Unavailable
        when the registry is silent, NodeRefused when it does not take the credentials; NoSpace, Unexplained.
        """
        credentials = {"registrytoken": token} if token else {}
        for pause in (*_PAUSES, None):
            room = diagnosis.Room(Path(self.info().get("DockerRootDir") or "/"))
            with room.watched():
                failure = self._pull(reference, credentials)
            if failure is None:
                return
            error = self._why_not_pulled(reference, credentials, failure, full=room.exhausted)
            if error is not None:
                raise error
            if pause is not None:
                time.sleep(pause)
        raise ImageUnavailable(
            f"The engine does not take the image {reference}, though registry, disk and engine are well: "
            f"{failure}"
        )

    def _pull(self, reference: str, credentials: Mapping[str, str]) -> str | None:
        """None when it succeeded, else what the engine says, for people."""
        end = time.monotonic() + _LONGEST_PULL
        try:
            steps = self._client(PULL).pull(
                reference, stream=True, decode=True, auth_config=dict(credentials)
            )
            with contextlib.closing(steps):
                for step in steps:
                    if "error" in step:
                        return str(step["error"])
                    if time.monotonic() > end:
                        return f"It took longer than {_LONGEST_PULL:.0f} s."
        except APIError as error:
            return str(error.explanation or error)
        except _Broken as error:
            return str(error)
        return None

    def _why_not_pulled(
        self, reference: str, credentials: Mapping[str, str], text: str, *, full: bool
    ) -> SandboxError | None:
        """None when everything but the image is well."""
        try:
            self.check_well()
            if full:
                return NoSpace("The engine's disk has no room for the image.")
            state = self._why_no_registry(reference, credentials)
            if state is not None:
                return state
            if self._registry_answer(reference, credentials)[0] in {401, 403, 404}:
                return ImageUnavailable(f"The registry refused the image {reference}: {text}")
            if not self._unpacks():
                return Unexplained(f"The engine unpacks no image now: {text}")
        except SandboxError as state:
            return state
        return None

    def _why_no_registry(self, reference: str, credentials: Mapping[str, str]) -> SandboxError | None:
        """Why the engine can pull nothing from this repository now; None when it can. A digest that no image
        has is asked for: so nothing that an image holds can influence the answer."""
        repository = reference.partition("@")[0]
        status, words = self._registry_answer(f"{repository}@{_NO_SUCH_DIGEST}", credentials)
        host = repository.partition("/")[0]
        if status in {200, 404}:
            return None
        if status in {401, 403}:
            return NodeRefused(f"The registry {host} does not take the credentials of this node: {words}")
        if diagnosis.distrusts(host):
            return NodeRefused(f"This node does not trust the certificate of the registry {host}.")
        return Unavailable(f"The registry {host} does not answer the engine (status {status}).")

    def _registry_answer(self, reference: str, credentials: Mapping[str, str]) -> tuple[int, str]:
        """HTTP status and words with which the registry answers the engine; 5xx when it does not."""
        try:
            with self._call(ACT) as client:
                client.inspect_distribution(  # type: ignore[no-untyped-call]
                    reference, auth_config=dict(credentials) or None
                )
        except APIError as error:
            words = str(error.explanation or error)
            # The engine reports 500 when it was refused a token.
            if refused := _NO_TOKEN.match(words):
                return 403, refused["words"]
            return int(error.status_code or 500), words
        return 200, ""

    def _unpacks(self) -> bool:
        """Whether the engine can unpack a layer at all: an empty one, which is removed again."""
        empty = io.BytesIO()
        with tarfile.open(fileobj=empty, mode="w"):
            pass
        name = f"gridapps-check-{uuid.uuid4().hex[:12]}"
        try:
            with self._call(ACT) as client:
                client.import_image_from_data(empty.getvalue(), repository=name, tag="1")
                client.remove_image(f"{name}:1", force=True)
        except APIError:
            return False
        return True

    def history(self, reference: str) -> list[dict[str, Any]]:
        """The steps that the image was built in, the newest first; none when the node does not have it."""
        try:
            with self._call() as client:
                return list(client.history(reference))  # type: ignore[no-untyped-call]
        except NotFound:
            return []
        except APIError as error:
            raise self._failed("describe the image", error) from error

    def drop_image(self, reference: str) -> bool:
        """Remove the reference, and the image if that was its last one. False when a container has it."""
        try:
            with self._call(ACT) as client:
                image = client.inspect_image(reference)["Id"]  # type: ignore[no-untyped-call]
                users = client.containers(all=True, filters={"ancestor": [image]})
                # The engine looks itself, but only at the last of an image's references.
                if any(user["ImageID"] == image for user in users):
                    return False
                # The images that it was built on, if it was built here, stay.
                client.remove_image(reference, noprune=True)
        except NotFound:
            return True
        except APIError as error:
            if error.status_code == 409:
                return False
            raise self._failed("remove the image", error) from error
        return True

    def create(self, name: str, configuration: Mapping[str, Any]) -> str:
        """The id of a new container. Raises NameTaken, ImageGone; ImageUnavailable when the engine finds
        fault with the image or with what was asked for."""
        try:
            with self._call(ACT, container=name) as client:
                made = client.create_container_from_config(dict(configuration), name)  # type: ignore[no-untyped-call]
                return str(made["Id"])
        except NotFound as error:
            raise ImageGone(f"The image is gone from this node: {error.explanation}") from error
        except APIError as error:
            if error.status_code == 409:
                raise NameTaken(f"A container named {name} exists already.") from error
            if error.status_code == 400 and self._takes_without_mounts(configuration):
                raise SandboxError(f"The engine does not see the workspace: {error.explanation}") from error
            if error.status_code == 400:
                raise ImageUnavailable(
                    f"The engine refuses to make a container of the image: {error.explanation}"
                ) from error
            raise self._failed("create the container", error) from error

    def _takes_without_mounts(self, configuration: Mapping[str, Any]) -> bool:
        """Whether the mounts are what the engine refuses, and not the image or the limits."""
        bare = {**configuration, "HostConfig": {**configuration["HostConfig"], "Mounts": []}}
        name = f"gridapps-check-{uuid.uuid4().hex[:12]}"
        try:
            with self._call(ACT, container=name) as client:
                made = client.create_container_from_config(bare, name)  # type: ignore[no-untyped-call]
                client.remove_container(made["Id"], v=True, force=True)
        except APIError:
            return False
        return True

    def stat(self, container: str, path: str) -> dict[str, Any] | None:
        """Name, size, mode (Go's) and link target of a path in a container; None when there is no such path.
        The engine looks at it without opening it."""
        answer = self._head(container, path)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            if self._head(container, "/").status_code == 200:
                raise ImageUnavailable(f"The path {path} of the image leads nowhere: it is a loop of links.")
            raise Unexplained(f"The engine could not look at {path} in the image: {answer.status_code}.")
        found: dict[str, Any] = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        return found

    def _head(self, container: str, path: str) -> requests.Response:
        with self._call(LOOK, container=container) as client:
            url = f"{client.base_url}/v{client.api_version}/containers/{container}/archive"
            return client.head(url, params={"path": path}, timeout=LOOK)

    def start(self, container: str) -> None:
        """Raises ImageUnavailable when the engine finds fault with the image; ContainerStuck when it comes to
        no end."""
        try:
            with self._call(ACT, container=container) as client:
                client.start(container)
        except APIError as error:
            if error.status_code == 400:
                raise ImageUnavailable(
                    f"The engine refuses to start a container of the image: {error.explanation}"
                ) from error
            raise self._failed("start the container", error) from error

    def container(self, name: str) -> dict[str, Any] | None:
        try:
            with self._call(container=name) as client:
                return dict(client.inspect_container(name))
        except NotFound:
            return None
        except APIError as error:
            raise self._failed("describe the container", error) from error

    def kill(self, name: str, signal: str) -> None:
        """Send a signal to the first process. A container that is gone or ended is no error."""
        try:
            with self._call(container=name) as client:
                client.kill(name, signal)
        except APIError as error:
            if error.status_code not in {404, 409}:
                raise self._failed("signal the container", error) from error

    def remove(self, name: str) -> None:
        """Idempotent; ends the container if it still runs. Another removal may be under way afterwards."""
        try:
            with self._call(ACT, container=name) as client:
                client.remove_container(name, v=True, force=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:
                raise self._failed("remove the container", error) from error

    def containers(self, label: str) -> list[dict[str, Any]]:
        """Those with this label, running or not. The engine answers whatever state one of them is in."""
        try:
            with self._call() as client:
                return list(client.containers(all=True, filters={"label": [label]}))
        except APIError as error:
            raise self._failed("list the containers", error) from error
