"""The sandbox over a real container engine: Docker."""

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gridapps.sandbox import profile, stopping, trial, watchdog, workspace
from gridapps.sandbox.containers import Containers, given_labels
from gridapps.sandbox.ends import Ends, Phase
from gridapps.sandbox.engine import image_calls, pulling
from gridapps.sandbox.engine.calls import Engine
from gridapps.sandbox.engine.ongoing import OngoingPull, OngoingPulls
from gridapps.sandbox.engine.presence import Presence
from gridapps.sandbox.engine.responses import Listed
from gridapps.sandbox.log import open_log
from gridapps.sandbox.outcome import outcome
from gridapps.sandbox.protocol import ContainerStuck, Ended, Launch, PullProgress, Resident, SandboxError
from gridapps.sandbox.starting import CHECK, Starter
from gridapps.sandbox.workspace import Quota, Workspace

_CHECKED_WITHIN = 120.0  # seconds
_WATCHDOG_PERIOD = 1.0  # seconds
_REMOVED_WITHIN = 60.0  # seconds


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
        self._engine = Engine(engine)
        self._presence = Presence(engine)
        self._containers = Containers(instance, engine=self._engine, scratch=scratch)
        self._ends = Ends(self._containers)
        self._pulls = OngoingPulls()
        self._starter = Starter(self._containers, quota=quota, runtime=runtime, users=users)
        self._quota = quota
        self._users = users

    def check(self) -> None:
        """Raises an error that names what is missing: engine, control groups, init, space, loop devices."""
        found = self._engine.described()
        if found.is_podman:
            raise SandboxError(
                f"Podman {found.version} answers at {self._engine.address}. It takes neither the credentials "
                "of pulls nor the security profile as Docker does: install Docker 20.10 or newer, and name "
                "its socket in GRIDAPPS_ENGINE."
            )
        self._containers.prepare()
        if not profile.INIT_BINARY.is_file():
            raise SandboxError(
                f"{profile.INIT_BINARY} is missing: install the package again, with gcc present."
            )
        probe = workspace.probe(self._containers.scratch, quota=self._quota, users=self._users)
        probe.remove()

    def try_out(self) -> None:
        """Run a container with the whole profile. Raises an error that says what failed."""
        trial.try_out(self, self._engine)

    def close(self) -> None:
        """Remove the control group when no container is left in it."""
        self._presence.close()
        self._containers.release()

    def version(self) -> str:
        return f"docker {self._engine.version()}"

    def held(self) -> int:
        volumes = [space.volume for space in self._containers.spaces()]
        return sum(shutil.disk_usage(volume).total for volume in volumes if volume.is_mount())

    def engine_changed(self, *, timeout: float) -> bool:
        return self._presence.changed(timeout=timeout)

    def pull(self, image: str, *, token: str, timeout: float) -> PullProgress | None:
        if image_calls.describe(self._engine, image) is not None:
            return None

        def begin(ongoing: OngoingPull) -> None:
            pulling.pull(self._engine, image, ongoing, token=token)

        return self._pulls.ask(image, begin, timeout=timeout)

    def layers(self, image: str) -> Mapping[str, int] | None:
        return image_calls.layers(self._engine, image)

    def drop(self, image: str) -> bool:
        return image_calls.drop(self._engine, image)

    def start(self, launch: Launch) -> None:
        self._starter.start(launch)

    def wait(self, name: str, *, timeout: float) -> Ended | None:
        space = self._containers.space(name)
        known = space.known()
        watched = known.get("quota") == "watchdog"
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            phase = self._ends.wait(name, timeout=min(left, _WATCHDOG_PERIOD) if watched else left)
            if phase is Phase.ABSENT:
                raise KeyError(name)
            if phase is Phase.ENDED:
                return outcome(self._containers, name)
            if watched:
                self._enforce_disk(name, space, known)
            if time.monotonic() >= end:
                return None

    def _enforce_disk(self, name: str, space: Workspace, known: Mapping[str, Any]) -> None:
        size, inodes = known["disk"] + known["log"], known["inodes"]
        if not space.over_quota.exists() and watchdog.over_limit(space.volume, size=size, inodes=inodes):
            space.over_quota.touch()
            self.stop(name, grace=0)

    def stop(self, name: str, *, grace: float) -> None:
        stopping.stop(self._containers, self._ends, name, grace=grace)

    def log(self, name: str) -> int | None:
        return open_log(self._containers.space(name).log)

    def outputs(self, name: str) -> int:
        grid = self._containers.space(name).grid
        try:
            return os.open(grid, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise KeyError(name) from None

    def remove(self, name: str) -> None:
        space = self._containers.space(name)
        if space.end_report() is not None:  # nothing runs any more, whatever the engine still does
            space.unmount()
        try:
            self._remove_container(self._containers.engine_name(name))
        except ContainerStuck as error:
            stopping.force(self._containers, name)
            space.unmount()
            raise ContainerStuck(f"{error} None of its processes runs, and none will start.") from error
        self._ends.forget(name)
        space.remove()

    def _remove_container(self, container: str) -> None:
        self._engine.remove(container)
        end = time.monotonic() + _REMOVED_WITHIN
        while self._engine.container(container) is not None:
            if time.monotonic() > end:
                raise ContainerStuck(f"The engine does not remove the container {container}.")
            time.sleep(0.02)

    def residents(self, *, labels: Mapping[str, str]) -> list[Resident]:
        self._remove_unfinished()
        found = {
            space.name: Resident(name=space.name, running=False, labels=space.known().get("labels", {}))
            for space in self._containers.spaces()
        }
        for name, container in self._containers.listed().items():
            if name.startswith(CHECK):
                self._remove_old_check(container)
                continue
            running = container.state == "running"
            found[name] = Resident(name=name, running=running, labels=given_labels(container))
        wanted = labels.items()
        return [resident for _, resident in sorted(found.items()) if wanted <= resident.labels.items()]

    def _remove_unfinished(self) -> None:
        """Remove workspaces whose creation or test was cut short."""
        for space in self._containers.spaces():
            if space.is_unfinished():
                space.remove()

    def _remove_old_check(self, container: Listed) -> None:
        """Remove a container in which an image was looked at by a process that has died."""
        if time.time() - container.created > _CHECKED_WITHIN:
            with suppress(SandboxError):
                self._engine.remove(container.id)
