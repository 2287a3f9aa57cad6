"""What a sandbox does: launch a program of the container contract, watch it, end it, hand over what it left.

A container and its workspace (arguments, outputs, log) share one name, given by the caller and unique per
attempt. Everything survives the caller: a worker that comes back finds its containers by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol


class SandboxError(Exception):
    """A failure of the platform, not of the program. The message is a sentence for the log and the user."""


class EngineUnavailable(SandboxError):
    """The engine does not answer. Nothing is known about the container: ask again later."""


class ImageUnavailable(SandboxError):
    """The image cannot be had: it is gone from the registry, or of a kind that the engine does not take."""


class ImageGone(ImageUnavailable):
    """The image is not on the node, or not any more: pull it first."""


class RegistryUnavailable(SandboxError):
    """The registry does not answer the engine: ask again later."""


class NodeRefused(SandboxError):
    """The registry does not take the credentials of this node, for whatever image."""


class NoSpace(SandboxError):
    """The node has no room for the workspace."""


class Unexplained(SandboxError):
    """The engine failed, although it, the registry and the disk are well. A few repetitions may help."""


class ContainerStuck(SandboxError):
    """The engine answers, but not about this one container: it can be neither described nor removed."""


class NameTaken(SandboxError):
    """A container or workspace of this name exists already: adopt it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hard limits of one container. Sizes in bytes."""

    cpus: float
    memory: int
    disk: int  # of outputs, enforced by the kernel; the log has room of its own beside them
    inodes: int = 100_000
    tmp: int = 1024**3  # /tmp; counts against memory, as every tmpfs does
    log: int = 10 * 1024**2  # of standard error; a longer log keeps its beginning and its last 64 KiB
    processes: int = 256
    open_files: int = 4096


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Everything that one container is started with. The security profile is not among it: it is fixed."""

    name: str  # [a-z0-9-], at most 100 characters
    image: str  # reference by digest, already pulled
    arguments: bytes  # one JSON object
    input: Path  # file on the node, mounted read-only
    input_name: str  # file name below /input: "pointcloud.laz"
    run: str
    task: str
    limits: Limits
    deadline: datetime  # aware; for the environment and a label. The caller enforces it.
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Usage:
    cpu_seconds: float
    memory_bytes: int  # peak of its largest process
    disk_bytes: int  # of outputs and log at the end


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a container ended: the facts, before anybody judges them (`ending.judge` does)."""

    exit_code: int  # of the program; 128 + signal when a signal ended it
    started_at: datetime
    ended_at: datetime
    out_of_memory: bool  # the engine's flag: some process of the container was killed for memory
    out_of_disk: bool  # bytes or inodes of the workspace were used up
    out_of_processes: bool  # the pids limit was hit
    log_dropped: int  # bytes of standard error beyond the limit
    not_started: str  # why the entry point could not be executed, or ""
    usage: Usage
    interrupted: bool = False  # ended from outside: by `stop`, or because the engine or the node ended
    output_dropped: int = 0  # bytes of standard output that the full workspace could not take


@dataclass(frozen=True, kw_only=True)
class Resident:
    """A container or workspace that the sandbox holds, for the reconciler."""

    name: str
    running: bool
    labels: Mapping[str, str]


class Sandbox(Protocol):
    """One engine on one node. Every call ends within a bounded time.

    Every call may raise EngineUnavailable, and one about a container ContainerStuck; each says what else, and
    when it may be repeated. Calls for different names may be made from several threads at once.
    """

    def check(self) -> None:
        """Raise a SandboxError that names the fault and its remedy, unless containers can be started now."""

    def version(self) -> str:
        """The engine's name and version. One round trip, whose time is the engine's latency."""

    def held(self) -> int:
        """Bytes of the node's disk that the workspaces there have reserved. The engine need not answer."""

    def engine_changed(self, *, timeout: float) -> bool:
        """Whether the engine went away, or came back, since the last call. Waits up to `timeout` seconds for
        that. Never raises EngineUnavailable. Called from one thread."""

    def pull(self, image: str, *, token: str) -> None:
        """Make the image of this reference (by digest) present on the node. Idempotent; free when present.

        `token` is a registry bearer token that may pull it; empty: the engine has credentials of its own.
        Raises ImageUnavailable, RegistryUnavailable, NodeRefused, NoSpace.
        """

    def layers(self, image: str) -> Mapping[str, int] | None:
        """Bytes of each layer of an image on the node, under keys that are the same in all images that share
        the layer; None when the image is not there."""

    def drop(self, image: str) -> bool:
        """Take an image off the node, unless a container has it; whether it is gone. Idempotent.

        It goes by this reference alone: under other names, and as layers of other images, it stays.
        """

    def start(self, launch: Launch) -> None:
        """Prepare the workspace and start the container, detached.

        Not idempotent: raises NameTaken when the name exists, so that two workers cannot both start one
        attempt. Raises ImageGone, ImageUnavailable, NoSpace; but for NameTaken leaves nothing behind when it
        raises. A program that cannot be executed is no error here: it has Ended with `not_started`.
        """

    def wait(self, name: str, *, timeout: float) -> Ended | None:
        """How the container ended, or None when it still runs after `timeout` seconds. Repeatable, also after
        the caller or the engine was restarted. Raises KeyError when there is no such container."""

    def stop(self, name: str, *, grace: float) -> None:
        """End the container: TERM, then KILL after `grace` seconds. Idempotent; when it returns no process of
        it runs. A name that does not exist is no error."""

    def log(self, name: str) -> int | None:
        """A descriptor of the file that standard error goes to; None without one. The caller closes it before
        `remove`, which cannot unmount a file system in use. The content is hostile."""

    def outputs(self, name: str) -> int:
        """A descriptor of the directory that was /grid, after the end: the caller's account can read the
        directories and regular files below it. The caller closes it before `remove`.

        Everything in it is hostile. Raises KeyError without a workspace.
        """

    def remove(self, name: str) -> None:
        """Remove container and workspace: containers, mounts, loop devices, directories. Idempotent."""

    def residents(self, *, labels: Mapping[str, str]) -> list[Resident]:
        """Every container and workspace that carries these labels."""
