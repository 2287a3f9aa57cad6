"""A sandbox in memory, for fast tests: programs are Python functions in threads, workspaces are directories.

The contract suite runs over it and over the real engine. It enforces no limits. A program determines how it
ends by its return value or by raising `Ending`.
"""

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from gridapps.sandbox.log import open_log
from gridapps.sandbox.protocol import (
    ContainerStuck,
    Ended,
    EngineUnavailable,
    ImageGone,
    ImageUnavailable,
    Launch,
    NameTaken,
    PullProgress,
    Resident,
    SandboxError,
    Usage,
    check_name,
)

_KILLED = 137


class ProgramStream(Protocol):
    """Where a fake program writes. Raises BrokenPipeError after the program was killed."""

    def write(self, content: bytes, /) -> int:
        """The number of bytes written, which is all."""


@dataclass(frozen=True)
class Call:
    """The argument of a fake program."""

    arguments: bytes
    input: Path
    output: Path
    stdout: ProgramStream
    stderr: ProgramStream
    canceled: threading.Event  # TERM: end soon


Program = Callable[[Call], int]


@dataclass
class Ending(Exception):
    """Raised by a fake program to end otherwise than by an exit code."""

    exit_code: int = 1
    out_of_memory: bool = False
    out_of_disk: bool = False
    out_of_processes: bool = False
    not_started: str = ""
    interrupted: bool = False


class _Output:
    """Standard output: writes to its file until the program is killed."""

    def __init__(self, path: Path, killed: threading.Event) -> None:
        self._path = path
        self._killed = killed

    def write(self, content: bytes) -> int:
        if self._killed.is_set():
            raise BrokenPipeError("The program was killed.")
        with self._path.open("ab") as file:
            file.write(self._shaped(content))
        return len(content)

    def _shaped(self, content: bytes) -> bytes:
        return content


class _Log(_Output):
    """Standard error: whole lines with time stamps."""

    _partial = b""

    def _shaped(self, content: bytes) -> bytes:
        *lines, self._partial = (self._partial + content).split(b"\n")
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode()
        return b"".join(stamp + line + b"\n" for line in lines)

    def flush_partial(self) -> None:
        if self._partial:
            self.write(b"\n")


@dataclass
class _Container:
    launch: Launch
    root: Path
    program: Program
    canceled: threading.Event = field(default_factory=threading.Event)
    killed: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)  # `ended` is set
    finished: threading.Event = field(default_factory=threading.Event)  # its thread has ended
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: Ended | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def grid(self) -> Path:
        return self.root / "grid"

    def run(self) -> None:
        log = _Log(self.root / "log", self.killed)
        call = Call(
            arguments=self.launch.arguments,
            input=self.launch.input,
            output=self.grid,
            stdout=_Output(self.grid / "stdout.txt", self.killed),
            stderr=log,
            canceled=self.canceled,
        )
        try:
            ending = Ending(exit_code=self.program(call))
        except Ending as raised:
            ending = raised
        except BrokenPipeError:
            ending = Ending(exit_code=_KILLED)
        except Exception as error:
            log.write(f"{type(error).__name__}: {error}\n".encode())
            ending = Ending(exit_code=1)
        if not self.killed.is_set():
            log.flush_partial()
        self.end(ending)
        self.finished.set()

    def end(self, ending: Ending) -> None:
        """Note the end, unless one is noted already."""
        with self.lock:
            self.ended = self.ended or Ended(
                exit_code=ending.exit_code,
                started_at=self.started_at,
                ended_at=datetime.now(UTC),
                out_of_memory=ending.out_of_memory,
                out_of_disk=ending.out_of_disk,
                out_of_processes=ending.out_of_processes,
                log_dropped=0,
                not_started=ending.not_started,
                interrupted=ending.interrupted or self.canceled.is_set(),
                usage=Usage(cpu_seconds=0.0, memory_bytes=0, disk_bytes=_size(self.root)),
            )
        self.done.set()


class FakeSandbox:
    """Implements `protocol.Sandbox`. `programs` maps image references to functions. While `available` is
    False the engine does not answer."""

    def __init__(self, *, scratch: Path, programs: Mapping[str, Program]) -> None:
        self._scratch = scratch
        self._programs = programs
        self._containers: dict[str, _Container] = {}
        self._lock = threading.Lock()
        self.available = True
        self.changed = threading.Event()  # set by a test: the engine went or came back
        self.stuck: set[str] = set()  # references of images whose containers cannot be removed
        self.pulled: set[str] = set()
        self._dropped: set[str] = set()
        self.sizes: dict[str, dict[str, int]] = {}  # bytes of layers by image; by default one of 1 byte

    def check(self) -> None:
        if not self.available:
            raise EngineUnavailable("The fake engine was switched off.")

    def version(self) -> str:
        self.check()
        return "fake 1"

    def held(self) -> int:
        return 0

    def engine_changed(self, *, timeout: float) -> bool:
        changed = self.changed.wait(timeout)
        self.changed.clear()
        return changed

    def pull(self, image: str, *, token: str, timeout: float) -> PullProgress | None:  # noqa: ARG002 - not used
        self.check()
        if image not in self._programs:
            raise ImageUnavailable(f"The registry refused the image {image}: it is unknown.")
        self.pulled.add(image)
        self._dropped.discard(image)
        return None

    def layers(self, image: str) -> Mapping[str, int] | None:
        self.check()
        return self.sizes.get(image, {image: 1}) if self._has(image) else None

    def drop(self, image: str) -> bool:
        self.check()
        with self._lock:
            if any(container.launch.image == image for container in self._containers.values()):
                return False
            self._dropped.add(image)
        return True

    def _has(self, image: str) -> bool:
        return image in self._programs and image not in self._dropped

    def start(self, launch: Launch) -> None:
        self.check()
        check_name(launch.name)
        if not launch.input.is_file():
            raise SandboxError(f"The input file {launch.input} is not on this node.")
        if not self._has(launch.image):
            raise ImageGone(f"The image {launch.image} is not on this node: pull it first.")
        container = _Container(launch, self._scratch / launch.name, self._programs[launch.image])
        with self._lock:
            if launch.name in self._containers or container.root.exists():
                raise NameTaken(f"A workspace named {launch.name} exists already.")
            container.grid.mkdir(parents=True)
            (container.grid / "stdout.txt").touch()
            (container.root / "log").touch()
            self._containers[launch.name] = container
        threading.Thread(target=container.run, name=launch.name, daemon=True).start()

    def wait(self, name: str, *, timeout: float) -> Ended | None:
        self.check()
        container = self._containers[name]
        container.done.wait(timeout)
        return container.ended

    def stop(self, name: str, *, grace: float) -> None:
        self.check()
        container = self._containers.get(name)
        if container is None:
            return
        container.canceled.set()
        if grace > 0 and container.done.wait(grace):
            return
        container.killed.set()
        container.end(Ending(exit_code=_KILLED))

    def log(self, name: str) -> int | None:
        return open_log(self._scratch / name / "log")

    def outputs(self, name: str) -> int:
        try:
            return os.open(self._scratch / name / "grid", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise KeyError(name) from None

    def remove(self, name: str) -> None:
        self.stop(name, grace=0)
        held = self._containers.get(name)
        if held is not None and held.launch.image in self.stuck:
            raise ContainerStuck(f"The engine does not remove the container of {name}.")
        with self._lock:
            container = self._containers.pop(name, None)
        if container is not None:
            container.finished.wait(5)  # its thread notices at the next output
            shutil.rmtree(container.root)

    def residents(self, *, labels: Mapping[str, str]) -> list[Resident]:
        self.check()
        with self._lock:
            containers = sorted(self._containers.items())
        return [
            Resident(name=name, running=container.ended is None, labels=dict(container.launch.labels))
            for name, container in containers
            if all(container.launch.labels.get(key) == value for key, value in labels.items())
        ]


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
