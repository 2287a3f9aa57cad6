"""The engine's calls about containers and itself, with failures as the protocol's errors."""

import base64
import io
import secrets
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import quote

import msgspec

from gridapps.sandbox import diagnosis
from gridapps.sandbox.engine.client import Client, NoAnswer, Parts, Response
from gridapps.sandbox.engine.responses import Container, Created, EngineVersion, Info, Listed, PathStat
from gridapps.sandbox.protocol import (
    ContainerStuck,
    EngineUnavailable,
    ImageGone,
    ImageUnavailable,
    NameTaken,
    NoSpace,
    SandboxError,
    Unexplained,
)


class Engine:
    """One engine. Thread-safe."""

    # Seconds for one answer. An engine under load takes several.
    look = 20.0  # calls that only read
    act = 60.0  # calls that create, start, signal or remove

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = Client(address)

    def call(
        self,
        method: str,
        path: str,
        *,
        seconds: float | None = None,
        container: str = "",
        **parts: Unpack[Parts],
    ) -> Response:
        """Ask the engine; `seconds` is `look` by default. `container` is the one that the call is about, if
        any: an engine that hangs on one container still answers about everything else.

        Raises EngineUnavailable, ContainerStuck.
        """
        seconds = self.look if seconds is None else seconds
        try:
            return self.client.call(method, path, seconds=seconds, **parts)
        except NoAnswer as error:
            if container and self._answers():
                raise ContainerStuck(
                    f"The engine answers, but not about the container {container} within {seconds:g} s."
                ) from error
            raise EngineUnavailable(
                f"The container engine at {self.address} does not answer ({error}). Is it running?"
            ) from error

    def _answers(self) -> bool:
        try:
            return not self.client.call("GET", "/_ping", seconds=self.look).failed
        except NoAnswer:
            return False

    def failure(self, what: str, response: Response) -> SandboxError:
        """The error for a call that failed, from the status and the state of the engine."""
        text = f"The engine could not {what}: {response.text}"
        if response.status < 500:
            return SandboxError(text)
        try:
            self.check_well()
        except SandboxError as state:
            return state
        return Unexplained(text)

    def check_well(self) -> None:
        """Raise EngineUnavailable unless engine and containerd answer, NoSpace if its disk is full."""
        info = self.info()
        if info.containerd_commit is None or info.containerd_commit.id in {"", "N/A"}:
            raise EngineUnavailable(f"The container engine at {self.address} has lost its containerd.")
        root = info.docker_root_dir
        if root and diagnosis.is_full(Path(root)):
            raise NoSpace(f"The disk of the container engine ({root}) is full.")

    def info(self) -> Info:
        response = self.call("GET", "/info")
        if response.failed:
            raise EngineUnavailable(f"The container engine could not describe itself: {response.text}")
        return response.decoded(Info)

    def version(self) -> str:
        return self.described().version

    def described(self) -> EngineVersion:
        response = self.call("GET", "/version")
        if response.failed:
            raise EngineUnavailable(f"The container engine could not describe itself: {response.text}")
        return response.decoded(EngineVersion)

    def containers(self, **filters: str) -> list[Listed]:
        """All containers that match, running or not. A stuck container does not delay the response."""
        wanted = {name: [value] for name, value in filters.items()}
        query = {"all": "1", "filters": msgspec.json.encode(wanted).decode()}
        response = self.call("GET", "/containers/json", query=query)
        if response.failed:
            raise self.failure("list the containers", response)
        return response.decoded(list[Listed])

    def create(self, name: str, configuration: Mapping[str, Any]) -> str:
        """The id of a new container. Raises NameTaken, ImageGone; ImageUnavailable when the engine refuses
        the image or the limits."""
        response = self._create(name, configuration)
        if not response.failed:
            return response.decoded(Created).id
        if response.status == 404:
            raise ImageGone(f"The image is gone from this node: {response.text}")
        if response.status == 409:
            raise NameTaken(f"A container named {name} exists already.")
        if response.status == 400 and self._takes_without_mounts(configuration):
            raise SandboxError(f"The engine does not see the workspace: {response.text}")
        if response.status == 400:
            raise ImageUnavailable(f"The engine refuses to create a container of the image: {response.text}")
        raise self.failure("create the container", response)

    def _create(self, name: str, configuration: Mapping[str, Any]) -> Response:
        return self.call(
            "POST",
            "/containers/create",
            seconds=self.act,
            container=name,
            query={"name": name},
            body=msgspec.json.encode(configuration),
            headers={"Content-Type": "application/json"},
        )

    def _takes_without_mounts(self, configuration: Mapping[str, Any]) -> bool:
        """Whether the engine refuses the mounts, and not the image or the limits."""
        bare = {**configuration, "HostConfig": {**configuration["HostConfig"], "Mounts": []}}
        name = f"gridapps-check-{secrets.token_hex(6)}"
        response = self._create(name, bare)
        if not response.failed:
            self.remove(name)
        return not response.failed

    def stat(self, container: str, path: str) -> PathStat | None:
        """A path in a container; None when it does not exist. The engine does not open it."""
        response = self._head(container, path)
        if response.status == 404:
            return None
        if response.status != 200:
            if self._head(container, "/").status == 200:
                raise ImageUnavailable(f"The path {path} of the image is a loop of symbolic links.")
            raise Unexplained(f"The engine could not look at {path} in the image: status {response.status}.")
        encoded = response.headers["X-Docker-Container-Path-Stat"]
        return msgspec.json.decode(base64.b64decode(encoded), type=PathStat)

    def read(self, container: str, path: str) -> bytes:
        """The content of a regular file, known to be small, in a container that does not run."""
        query = {"path": path}
        response = self.call(
            "GET", f"/containers/{quote(container)}/archive", container=container, query=query
        )
        if response.failed:
            raise self.failure(f"read {path} of the image", response)
        try:
            with tarfile.open(fileobj=io.BytesIO(response.body), mode="r:") as archive:
                entry = archive.next()
                file = archive.extractfile(entry) if entry is not None else None
                return file.read() if file is not None else b""
        except tarfile.TarError as error:
            raise Unexplained(
                f"The engine's archive of {path} in the image was not understood: {error}"
            ) from None

    def _head(self, container: str, path: str) -> Response:
        return self.call(
            "HEAD", f"/containers/{quote(container)}/archive", container=container, query={"path": path}
        )

    def start(self, container: str) -> None:
        """Raises ImageUnavailable when the engine refuses the image, ContainerStuck when it never ends."""
        response = self.call(
            "POST", f"/containers/{quote(container)}/start", seconds=self.act, container=container
        )
        if response.status == 400:
            raise ImageUnavailable(f"The engine refuses to start a container of the image: {response.text}")
        if response.failed:
            raise self.failure("start the container", response)

    def container(self, name: str) -> Container | None:
        response = self.call("GET", f"/containers/{quote(name)}/json", container=name)
        if response.status == 404:
            return None
        if response.failed:
            raise self.failure("describe the container", response)
        return response.decoded(Container)

    def kill(self, name: str, signal: str) -> None:
        """Send a signal to the first process. A container that is gone or has ended is no error."""
        response = self.call(
            "POST", f"/containers/{quote(name)}/kill", container=name, query={"signal": signal}
        )
        if response.failed and response.status not in {404, 409}:
            raise self.failure("signal the container", response)

    def remove(self, name: str) -> None:
        """Idempotent; kills the container if it still runs. Another removal may still be under way."""
        response = self.call(
            "DELETE",
            f"/containers/{quote(name)}",
            seconds=self.act,
            container=name,
            query={"v": "1", "force": "1"},
        )
        if response.failed and response.status not in {404, 409}:
            raise self.failure("remove the container", response)
