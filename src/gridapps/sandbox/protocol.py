"""What a sandbox does: it starts programs under the container contract, waits for them, and returns outputs.

A container and its workspace (arguments, outputs, log) share a name, which the caller chooses for each
attempt. Both outlive the caller: a restarted worker finds its containers by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")


def check_name(name: str) -> None:
    """Raise ValueError unless this can be the name of a container."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid container name: use [a-z0-9-], at most 100 characters.")


class SandboxError(Exception):
    """A failure of the platform, not of the program. The message is a sentence for the log and the user."""


class EngineUnavailable(SandboxError):
    """The engine does not answer. The state of the container is unknown: ask again later."""


class ImageUnavailable(SandboxError):
    """The image is not in the registry any more, or the engine rejects it."""


class ImageGone(ImageUnavailable):
    """The image is not on the node: pull it first."""


class RegistryUnavailable(SandboxError):
    """The registry does not answer the engine: ask again later."""


class NodeRefused(SandboxError):
    """The registry refuses the credentials of this node, for every image."""


class NoSpace(SandboxError):
    """The disk of the node is too full."""


class Unexplained(SandboxError):
    """The engine failed, although engine, registry and disk work. Trying again may help."""


class ContainerStuck(SandboxError):
    """The engine answers, but hangs on calls about this container."""


class NameTaken(SandboxError):
    """A container or workspace of this name exists already: adopt it."""


MAX_OUTPUTS = 150_000  # by default


def inodes_for(outputs: int) -> int:
    """The inodes of a workspace for this number of outputs: there are directories as well."""
    return outputs + outputs // 8 + 1000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hard limits of one container. Sizes in bytes."""

    cpus: float
    memory: int
    disk: int  # of outputs and scratch files together; the log is limited separately
    outputs: int = MAX_OUTPUTS  # files that are collected
    inodes: int = inodes_for(MAX_OUTPUTS)
    log: int = 10 * 1024**2  # of standard error; of a longer log the beginning and the newest lines
    processes: int = 256
    open_files: int = 16_384  # of one process


@dataclass(frozen=True, kw_only=True)
class EntryPoint:
    """What an image runs, according to its configuration."""

    command: list[str]  # ENTRYPOINT and CMD
    workdir: str = "/"
    environment: list[str] = field(default_factory=list)  # NAME=value


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a container is started with, except for the security profile, which is fixed."""

    name: str  # see NAME
    image: str  # reference by digest, already pulled
    arguments: bytes  # one JSON object
    input: Path  # file on the node, mounted read-only
    input_name: str  # true file name below /input, such as "pointcloud.copc.laz"
    run: str
    task: str
    limits: Limits
    deadline: datetime  # with a time zone; for the environment and a label. The caller enforces it.
    labels: Mapping[str, str] = field(default_factory=dict)
    entry: EntryPoint | None = None  # as the push recorded it; None: as the engine describes the image


@dataclass(frozen=True, kw_only=True)
class PullProgress:
    """Bytes of the layers whose download has begun. Both are 0 as long as the engine says nothing."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Usage:
    cpu_seconds: float
    memory_bytes: int  # peak of its largest process
    disk_bytes: int  # of outputs, scratch files and log at the end


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The facts about the end of a container, which `ending.judge` judges."""

    exit_code: int  # of the program; 128 + signal when a signal ended it
    started_at: datetime
    ended_at: datetime
    out_of_memory: bool  # some process of the container was killed for memory
    out_of_disk: bool  # bytes or inodes of the workspace were used up
    out_of_processes: bool  # the pids limit was hit
    log_dropped: int  # bytes of standard error beyond the limit
    not_started: str  # why the entry point could not be executed, or ""
    usage: Usage
    interrupted: bool = False  # ended from outside: by `stop`, or because the engine or the node stopped
    output_dropped: int = 0  # bytes of standard output that did not fit into the workspace
    tmp_bytes: int = 0  # of memory that files in /tmp took at the end
    shm_bytes: int = 0  # the same for /dev/shm


@dataclass(frozen=True, kw_only=True)
class Resident:
    """A container or workspace on the node."""

    name: str
    running: bool
    labels: Mapping[str, str]


class Sandbox(Protocol):
    """One engine on one node. Every call ends within a bounded time.

    Every call may raise EngineUnavailable, and a call about a container ContainerStuck. The docstrings say
    what else a call raises and whether it may be repeated. Threads may make calls for different names at
    once.
    """

    def check(self) -> None:
        """Raise a SandboxError that names the fault and its remedy, unless containers can be started now."""

    def version(self) -> str:
        """The engine's name and version, by one round trip to the engine."""

    def held(self) -> int:
        """Bytes of the node's disk that workspaces reserve. Does not ask the engine."""

    def engine_changed(self, *, timeout: float) -> bool:
        """Whether the engine went away or came back since the last call. Waits up to `timeout` seconds for
        that. Does not raise EngineUnavailable. Not thread-safe."""

    def pull(self, image: str, *, token: str, timeout: float) -> PullProgress | None:
        """Pull the image of this reference (by digest) unless it is on the node. None when it is there, else
        the progress after `timeout` seconds: call again.

        A pull that no call asks about for some seconds is abandoned.

        `token` is a bearer token for the registry; "" if the engine has credentials of its own.
        Raises ImageUnavailable, RegistryUnavailable, NodeRefused, NoSpace.
        """

    def layers(self, image: str) -> Mapping[str, int] | None:
        """Bytes of each layer of an image, under keys that are the same in all images that share the layer;
        None when the image is not on the node."""

    def drop(self, image: str) -> bool:
        """Remove an image from the node unless a container uses it. Returns whether it is gone. Idempotent.

        Removes only this reference: other names of the image, and images that share its layers, stay.
        """

    def start(self, launch: Launch) -> None:
        """Prepare the workspace and start the container, detached.

        Not idempotent: raises NameTaken when the name exists, so that two workers cannot start the same
        attempt. Raises ImageGone, ImageUnavailable, NoSpace. A container may exist only after NameTaken
        and EngineUnavailable. A program that cannot be executed raises nothing: it Ended with `not_started`.
        """

    def wait(self, name: str, *, timeout: float) -> Ended | None:
        """How the container ended, or None if it still runs after `timeout` seconds. Idempotent, also across
        restarts of the caller and of the engine. Raises KeyError when there is no such container."""

    def stop(self, name: str, *, grace: float) -> None:
        """End the container: TERM, then KILL after `grace` seconds. Idempotent. No process of it runs
        afterwards. A name that does not exist is no error."""

    def log(self, name: str) -> int | None:
        """A descriptor of the log file, or None without one. The caller closes it before `remove`, which
        cannot unmount a file system in use. The content is hostile."""

    def outputs(self, name: str) -> int:
        """A descriptor of the directory that was /grid, after the end. The caller's account can read the
        directories and regular files in it. The caller closes it before `remove`.

        Everything in it is hostile. Raises KeyError without a workspace.
        """

    def remove(self, name: str) -> None:
        """Remove the container and its workspace: mounts, loop device, directories. Idempotent."""

    def residents(self, *, labels: Mapping[str, str]) -> list[Resident]:
        """All containers and workspaces that carry these labels."""
