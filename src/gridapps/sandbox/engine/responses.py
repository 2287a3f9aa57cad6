"""The fields of the engine's responses that the sandbox reads. Other fields are skipped."""

from datetime import datetime

import msgspec
from msgspec import field


class Failure(msgspec.Struct):
    message: str


class _Response(msgspec.Struct, rename="pascal"):
    pass


class Component(_Response):
    """A part of the engine, such as the engine itself and its runtime."""

    name: str = ""


class EngineVersion(_Response):
    version: str
    api_version: str
    components: list[Component] | None = None

    @property
    def is_podman(self) -> bool:
        return any("podman" in component.name.casefold() for component in self.components or [])


class Commit(_Response):
    id: str = field(name="ID", default="")


class Info(_Response):
    cgroup_driver: str = ""
    cgroup_version: str = ""
    docker_root_dir: str = ""
    containerd_commit: Commit | None = None
    driver_status: list[tuple[str, str]] | None = None

    @property
    def containerd_store(self) -> bool:
        """Whether containerd keeps the images, the default since Docker 29."""
        return ("driver-type", "io.containerd.snapshotter.v1") in (self.driver_status or [])


class ImageConfig(_Response):
    """The configuration of an image."""

    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    volumes: dict[str, object] | None = None
    working_dir: str = ""


class RootFs(_Response):
    layers: list[str] | None = None


class Image(_Response):
    id: str
    os: str = ""
    architecture: str = ""
    size: int = 0  # bytes
    config: ImageConfig | None = None
    root_fs: RootFs = field(name="RootFS", default_factory=RootFs)


class Step(_Response):
    """A step of the build of an image."""

    size: int = 0  # bytes


class Created(_Response):
    id: str


class ContainerState(_Response):
    status: str
    running: bool
    pid: int
    exit_code: int
    started_at: datetime
    finished_at: datetime
    oom_killed: bool = field(name="OOMKilled", default=False)


class Container(_Response):
    id: str
    created: datetime
    state: ContainerState


class Listed(_Response):
    """A container in the list of containers."""

    id: str
    image_id: str = field(name="ImageID")
    state: str
    created: int  # seconds since 1970
    labels: dict[str, str] | None = None


class PathStat(msgspec.Struct, frozen=True, rename="camel"):
    """A path in a container. `mode` is Go's os.FileMode."""

    size: int
    mode: int
    link_target: str = ""


class LayerProgress(msgspec.Struct):
    """How far the engine is with a layer, in bytes."""

    current: int = 0
    total: int = 0


class PullLine(msgspec.Struct):
    """A line of the stream that answers a pull."""

    error: str = ""
    id: str = ""  # of the layer
    status: str = ""
    detail: LayerProgress = field(name="progressDetail", default_factory=LayerProgress)
