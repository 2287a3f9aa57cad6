"""The sandbox over a real container engine (docker, or what speaks its API).

The order of things: a workspace with its quota file system, then the container, detached. The end is known
when the container's init has gone and left its report; what the engine does after that is waited for only in
`remove`.
"""

import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gridapps.sandbox import cgroup, image_files, processes, profile, workspace
from gridapps.sandbox.engine import Engine
from gridapps.sandbox.exits import Exits
from gridapps.sandbox.layers import layers_of
from gridapps.sandbox.log import open_log
from gridapps.sandbox.presence import Presence
from gridapps.sandbox.protocol import (
    ContainerStuck,
    Ended,
    EngineUnavailable,
    ImageGone,
    Launch,
    NameTaken,
    Resident,
    SandboxError,
    Usage,
)
from gridapps.sandbox.report import Report, read_report, why_not_started
from gridapps.sandbox.workspace import Quota, Workspace

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_LABELS = "gridapps.labels"  # the caller's, as one JSON text: an image's own labels can add nothing to it
_INSTANCE = "gridapps.instance"
_NAMED = "gridapps.name"
_OVER = "over-quota"  # file in a workspace: the watchdog ended it
_FORCED = "forced"  # file in a workspace: it was ended without the engine
_CHECK = "check-"  # begins the names of containers that are only looked at, never started
_CHECKED_WITHIN = 120.0  # seconds
_WATCHDOG_PERIOD = 1.0  # seconds
_INIT_BROKE = 125
_STARTED_BY = 10.0  # seconds from creation: a container that is not started by then never will be
_LAST_SECONDS = 10.0  # for init, after it was told to end everything
_REMOVED_WITHIN = 60.0  # seconds
_KILLED = 137


class DockerSandbox:
    """Implements `protocol.Sandbox`. The engine must see `scratch` under the same path."""

    def __init__(
        self,
        *,
        engine: str,
        instance: str,
        scratch: Path,
        quota: Quota,
        runtime: str,
        users: range = workspace.USERS,
    ) -> None:
        if not _NAME.fullmatch(instance):
            raise ValueError(f"An instance is named with [a-z0-9-], not {instance!r}.")
        self._engine = Engine(engine)
        self._instance = instance
        self._scratch = scratch.absolute()
        self._quota = quota
        self._runtime = runtime
        self._users = users  # ids, one for each attempt
        self._exits = Exits()
        self._presence = Presence(engine)
        self._cgroup = ""
        self._sound: set[str] = set()  # ids of images whose files were looked at
        self._starting: set[str] = set()
        self._guard = threading.Lock()  # of the names that are being started

    def check(self) -> None:
        """Raises with what is missing: engine, control groups, init, room, loop devices."""
        self._prepare()
        if not profile.INIT_BINARY.is_file():
            raise SandboxError(
                f"{profile.INIT_BINARY} is missing: install the package again, with gcc present."
            )
        probe = workspace.probe(self._scratch, quota=self._quota, users=self._users)
        probe.remove()

    def _prepare(self) -> str:
        """The directory and the control group of all containers: once per process, when it succeeds."""
        if not self._cgroup:
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._cgroup = cgroup.prepare(self._engine.info(), instance=self._instance)
        return self._cgroup

    def close(self) -> None:
        """Close connections, and remove the control group when no container is left in it."""
        self._engine.close()
        self._presence.close()
        cgroup.release(instance=self._instance)
        self._cgroup = ""

    def version(self) -> str:
        return f"docker {self._engine.version()}"

    def held(self) -> int:
        volumes = [space.volume for space in self._spaces()]
        return sum(shutil.disk_usage(volume).total for volume in volumes if volume.is_mount())

    def engine_changed(self, *, timeout: float) -> bool:
        return self._presence.changed(timeout=timeout)

    def pull(self, image: str, *, token: str) -> None:
        if self._engine.image(image) is None:
            self._engine.pull(image, token=token)

    def layers(self, image: str) -> Mapping[str, int] | None:
        found = self._engine.image(image)
        return None if found is None else layers_of(found, self._engine.history(image))

    def drop(self, image: str) -> bool:
        return self._engine.drop_image(image)

    def start(self, launch: Launch) -> None:
        with self._only_start_of(launch.name):
            self._start(launch)

    @contextmanager
    def _only_start_of(self, name: str) -> Iterator[None]:
        """A second caller would find a container that is created and not started, and start it as well."""
        with self._guard:
            if name in self._starting:
                raise NameTaken(f"A container named {name} is being started.")
            self._starting.add(name)
        try:
            yield
        finally:
            with self._guard:
                self._starting.discard(name)

    def _start(self, launch: Launch) -> None:
        self._check_launch(launch)
        group = self._prepare()
        inspected = self._engine.image(launch.image)
        if inspected is None:
            raise ImageGone(f"The image {launch.image} is not on this node: pull it first.")
        entry = profile.Entry.of_image(inspected)
        self._check_files(inspected)
        known = {"entry_point": entry.command[0], "workdir": entry.workdir}
        try:
            space = workspace.create(self._scratch, launch, quota=self._quota, users=self._users, entry=known)
        except NameTaken:
            if not self._start_again(launch.name):
                raise
            return
        configuration = profile.container(
            launch=launch,
            workspace=space,
            entry=entry,
            labels=self._labels_of(launch),
            runtime=self._runtime,
            cgroup=group,
        )
        try:
            container = self._create(self._container(launch.name), configuration)
        except BaseException:
            space.remove()
            raise
        space.note_container(container)
        try:
            self._engine.start(container)
        except EngineUnavailable:
            raise  # it may have started it all the same; who asks again finds out
        except ContainerStuck:
            self._end_without_engine(launch.name)
            raise
        except BaseException:
            self._engine.remove(container)
            space.remove()
            raise

    def _check_files(self, inspected: Mapping[str, Any]) -> None:
        """Look at the image's files in a container without mounts that is never started: once per image."""
        image = inspected["Id"]
        if image in self._sound:
            return
        name = f"{_CHECK}{uuid.uuid4().hex[:12]}"
        labels = {_INSTANCE: self._instance, _NAMED: name, _LABELS: "{}"}
        container = self._engine.create(self._container(name), profile.unstarted(image, labels=labels))
        try:
            image_files.check(lambda path: self._engine.stat(container, path))
            if self._engine.container(container) is None:  # then every path was missing
                raise EngineUnavailable(f"The engine lost the container in which {image} was looked at.")
        finally:
            self._engine.remove(container)
        self._sound.add(image)

    def _start_again(self, name: str) -> bool:
        """Start a container that the engine created before it went away. Whether there was such a one."""
        container = self._engine.container(self._container(name))
        if container is None or container["State"]["Status"] != "created":
            return False
        self._engine.start(container["Id"])
        return True

    def _create(self, container: str, configuration: Mapping[str, Any]) -> str:
        """Who has just made the workspace is alone: a container without one was never started, or was left by
        an engine whose answer was lost."""
        try:
            return self._engine.create(container, configuration)
        except NameTaken:
            if self._runs(container):
                raise
        self._engine.remove(container)
        return self._engine.create(container, configuration)

    def _check_launch(self, launch: Launch) -> None:
        if not _NAME.fullmatch(launch.name):
            raise ValueError(f"A container is named with [a-z0-9-], not {launch.name!r}.")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", launch.input_name):
            raise ValueError(f"The input cannot be named {launch.input_name!r}.")
        if not launch.input.is_file():
            raise SandboxError(f"The input file {launch.input} is not on this node.")

    def _container(self, name: str) -> str:
        return f"gridapps-{self._instance}-{name}"

    def _labels_of(self, launch: Launch) -> dict[str, str]:
        return {
            _INSTANCE: self._instance,
            _NAMED: launch.name,
            _LABELS: json.dumps(dict(launch.labels)),
            "gridapps.deadline": launch.deadline.astimezone(UTC).isoformat(),
        }

    def _space(self, name: str) -> Workspace:
        if not _NAME.fullmatch(name):
            raise KeyError(name)
        return Workspace(self._scratch / name)

    def wait(self, name: str, *, timeout: float) -> Ended | None:
        space = self._space(name)
        end = time.monotonic() + timeout
        known = space.known()
        while True:
            left = max(0.0, end - time.monotonic())
            if self._ended_within(name, min(left, _WATCHDOG_PERIOD) if self._watched(known) else left):
                return self._how_it_ended(name, space, known)
            if self._watched(known):
                self._watch_disk(name, space, known)
            if time.monotonic() >= end:
                return None

    def _ended_within(self, name: str, timeout: float) -> bool:
        ended = self._exits.wait(name, timeout=timeout)
        if ended is not None:
            return ended
        if self._report(name) is not None or self._was_forced(name):
            return True
        container = self._must_inspect(name)
        state = container["State"]
        if not state["Running"]:
            return state["Status"] != "created" or _is_abandoned(container)
        if self._exits.watch(name, process=state["Pid"], container=container["Id"]):
            return bool(self._exits.wait(name, timeout=timeout))
        return self._ended_by_looking(name, timeout)

    def _ended_by_looking(self, name: str, timeout: float) -> bool:
        """It is ending right now, or runs where its processes cannot be seen: look, ever less often."""
        end, pause = time.monotonic() + timeout, 0.002
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, pause))
            if self._report(name) is not None:
                return True
            if pause > 0.05 and not self._must_inspect(name)["State"]["Running"]:
                return True
            pause = min(pause * 1.5, 0.5)
        return False

    def _report(self, name: str) -> Report | None:
        space = self._space(name)
        return read_report(space.status, word=space.known().get("word", ""))

    def _must_inspect(self, name: str) -> dict[str, Any]:
        container = self._engine.container(self._container(name))
        if container is None:
            raise KeyError(name)
        return container

    @staticmethod
    def _watched(known: Mapping[str, Any]) -> bool:
        return known.get("quota") == "watchdog"

    def _watch_disk(self, name: str, space: Workspace, known: Mapping[str, Any]) -> None:
        if not (space.root / _OVER).exists() and workspace.over_limit(space, known):
            (space.root / _OVER).touch()
            self.stop(name, grace=0)

    def _how_it_ended(self, name: str, space: Workspace, known: Mapping[str, Any]) -> Ended:
        report = self._report(name)
        if report is None:
            return self._as_the_engine_saw_it(name, space)
        used = space.disk_used()
        # A large write may fail while there is room for small ones, and init sees no full disk.
        full = report.disk_full or used - _size(space.log) >= known["disk"] or (space.root / _OVER).exists()
        return Ended(
            exit_code=report.exit_code,
            started_at=report.started,
            ended_at=report.ended,
            out_of_memory=report.oom_kills > 0,
            out_of_disk=full,
            out_of_processes=report.forks_refused > 0,
            log_dropped=report.log_dropped,
            output_dropped=report.output_dropped,
            not_started=_not_started(report, known),
            interrupted=report.asked,
            usage=Usage(cpu_seconds=report.cpu_seconds, memory_bytes=report.memory, disk_bytes=used),
        )

    def _as_the_engine_saw_it(self, name: str, space: Workspace) -> Ended:
        """Without a report: something killed init itself, or it could not begin."""
        if self._was_forced(name):
            return self._as_forced(space)
        container = self._must_inspect(name)
        for _ in range(200):
            if not container["State"]["Running"]:
                break
            time.sleep(0.05)
            container = self._must_inspect(name)
        state = container["State"]
        if not space.grid.is_dir():
            raise SandboxError(f"The workspace of {name} is gone: the node was restarted.")
        if state["ExitCode"] == _INIT_BROKE:
            raise SandboxError(f"The first process of {name} could not prepare the start.")
        return Ended(
            exit_code=state["ExitCode"],
            started_at=_engine_time(state["StartedAt"]),
            ended_at=_engine_time(state["FinishedAt"]),
            out_of_memory=bool(state["OOMKilled"]),
            out_of_disk=(space.root / _OVER).exists(),
            out_of_processes=False,
            log_dropped=0,
            not_started="",
            interrupted=True,
            usage=Usage(cpu_seconds=0.0, memory_bytes=0, disk_bytes=space.disk_used()),
        )

    def stop(self, name: str, *, grace: float) -> None:
        """TERM to all processes; then init kills them and reports; at last init itself is killed. Where the
        engine does not do it, the kernel is asked directly."""
        try:
            ended = self._stop(name, grace)
        except ContainerStuck:
            ended = False
        if not ended or processes.of(self._id(name), group=self._prepare()):
            self._end_without_engine(name)

    def _stop(self, name: str, grace: float) -> bool:
        container = self._container(name)
        if self._was_forced(name) or not self._runs(container):
            return True
        for signal, seconds in (("TERM", grace), ("USR1", _LAST_SECONDS), ("KILL", _LAST_SECONDS)):
            try:
                if self._ended_within(name, 0):
                    return True
                if signal != "TERM" or seconds > 0:
                    self._engine.kill(container, signal)
                end = time.monotonic() + seconds
                while (left := end - time.monotonic()) > 0:
                    if self._ended_within(name, left):
                        return True
            except KeyError:
                return True
        return False

    def _end_without_engine(self, name: str) -> None:
        """End what runs, and make sure that nothing starts later, whatever the engine has still under way."""
        space = self._space(name)
        reported = self._report(name) is not None
        if not reported:
            space.spoil()
        if not processes.end(
            self._id(name), group=self._prepare(), grace=_LAST_SECONDS if not reported else 0
        ):
            raise ContainerStuck(f"The processes of {name} do not end, though they were killed.")
        if space.root.is_dir() and self._report(name) is None:
            (space.root / _FORCED).touch()

    def _was_forced(self, name: str) -> bool:
        return (self._space(name).root / _FORCED).exists()

    @staticmethod
    def _as_forced(space: Workspace) -> Ended:
        begun, ended = (datetime.fromtimestamp((space.root / file).stat().st_mtime, UTC)
                        for file in ("launch.json", _FORCED))  # fmt: skip
        return Ended(
            exit_code=_KILLED,
            started_at=begun,
            ended_at=ended,
            out_of_memory=False,
            out_of_disk=(space.root / _OVER).exists(),
            out_of_processes=False,
            log_dropped=0,
            not_started="",
            interrupted=True,
            usage=Usage(cpu_seconds=0.0, memory_bytes=0, disk_bytes=space.disk_used()),
        )

    def _id(self, name: str) -> str:
        """The engine's id of a container, "" when there is none. Asks nothing about that one container."""
        noted = self._space(name).container()
        if noted:
            return noted
        return next((str(found["Id"]) for found in self._all() if found["Labels"][_NAMED] == name), "")

    def _all(self) -> list[dict[str, Any]]:
        return self._engine.containers(f"{_INSTANCE}={self._instance}")

    def _runs(self, container: str) -> bool:
        found = self._engine.container(container)
        return found is not None and bool(found["State"]["Running"])

    def log(self, name: str) -> int | None:
        return open_log(self._space(name).log)

    def outputs(self, name: str) -> int:
        grid = self._space(name).grid
        try:
            return os.open(grid, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise KeyError(name) from None

    def remove(self, name: str) -> None:
        space = self._space(name)
        container = self._container(name)
        if self._report(name) is not None:  # nothing runs: the engine tidies up meanwhile
            space.unmount()
        try:
            self._remove_container(container)
        except ContainerStuck as error:
            self._end_without_engine(name)
            space.unmount()
            raise ContainerStuck(f"{error} None of its processes runs, and none will start.") from error
        self._exits.forget(name)
        space.remove()

    def _remove_container(self, container: str) -> None:
        self._engine.remove(container)
        end = time.monotonic() + _REMOVED_WITHIN
        while self._engine.container(container) is not None:
            if time.monotonic() > end:
                raise ContainerStuck(f"The engine does not remove the container {container}.")
            time.sleep(0.02)

    def _remove_unfinished(self) -> None:
        """Workspaces that name nobody: who was making them, or trying whether it can be done, has died."""
        for space in self._spaces():
            if space.is_unfinished():
                space.remove()

    def residents(self, *, labels: Mapping[str, str]) -> list[Resident]:
        self._remove_unfinished()
        found = {space.name: Resident(name=space.name, running=False, labels=space.known().get("labels", {}))
                 for space in self._spaces()}  # fmt: skip
        for container in self._all():
            own = container["Labels"]
            if own[_NAMED].startswith(_CHECK):
                self._remove_old_check(container)
                continue
            found[own[_NAMED]] = Resident(
                name=own[_NAMED], running=container["State"] == "running", labels=json.loads(own[_LABELS])
            )
        return [
            resident
            for _, resident in sorted(found.items())
            if all(resident.labels.get(key) == value for key, value in labels.items())
        ]

    def _remove_old_check(self, container: Mapping[str, Any]) -> None:
        """Remove a container in which an image was looked at by a process that has died."""
        if time.time() - container["Created"] > _CHECKED_WITHIN:
            with suppress(SandboxError):
                self._engine.remove(container["Id"])

    def _spaces(self) -> list[Workspace]:
        if not self._scratch.is_dir():
            return []
        return [Workspace(path) for path in self._scratch.iterdir() if _NAME.fullmatch(path.name)]


def _size(path: Path) -> int:
    return path.lstat().st_size if path.exists() else 0


def _not_started(report: Report, known: Mapping[str, Any]) -> str:
    return why_not_started(report, entry_point=known["entry_point"], workdir=known["workdir"])


def _is_abandoned(container: Mapping[str, Any]) -> bool:
    """Whether a container was created and then not started, because the worker died in between."""
    age = datetime.now(UTC) - _engine_time(container["Created"])
    if age.total_seconds() > _STARTED_BY:
        raise KeyError(container["Name"])
    return False


def _engine_time(text: str) -> datetime:
    """RFC 3339 with nanoseconds, which datetime does not read."""
    return datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", text))
