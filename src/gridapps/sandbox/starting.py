"""Starting a container: check the launch and the image, make the workspace, create and start."""

import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gridapps.sandbox import image_files, profile, workspace
from gridapps.sandbox.account_files import AccountFiles
from gridapps.sandbox.containers import Containers
from gridapps.sandbox.engine import image_calls
from gridapps.sandbox.protocol import (
    ContainerStuck,
    EngineUnavailable,
    ImageGone,
    Launch,
    NameTaken,
    SandboxError,
    check_name,
)
from gridapps.sandbox.stopping import force
from gridapps.sandbox.workspace import Quota, Workspace

REMEMBERED = 32  # images; each has up to 2 MiB of account files
CHECK = "check-"  # prefix of containers that are created to inspect an image and never started


class Starter:
    """Starts the containers of an instance. Thread-safe."""

    def __init__(self, containers: Containers, *, quota: Quota, runtime: str, users: range) -> None:
        self._containers = containers
        self._engine = containers.engine
        self._quota = quota
        self._runtime = runtime
        self._users = users  # ids, one for each attempt
        self._checked: dict[str, AccountFiles] = {}  # by the id of the image, the newest last
        self._starting: set[str] = set()  # names
        self._guard = threading.Lock()  # of `_starting`

    def start(self, launch: Launch) -> None:
        """See `protocol.Sandbox.start`."""
        _check(launch)
        with self._only_start_of(launch.name):
            image = image_calls.describe(self._engine, launch.image)
            if image is None:
                raise ImageGone(f"The image {launch.image} is not on this node: pull it first.")
            profile.refuse_volumes(image)
            entry = launch.entry or profile.entry_point(image)
            group = self._containers.prepare()
            accounts = self._check_files(launch.image, identifier=image.id)
            try:
                space = workspace.create(
                    self._containers.scratch,
                    launch,
                    quota=self._quota,
                    users=self._users,
                    entry={"entry_point": entry.command[0], "workdir": entry.workdir},
                    accounts=accounts,
                )
            except NameTaken:
                if not self._start_created(launch.name):
                    raise
                return
            configuration = profile.container(
                launch=launch,
                workspace=space,
                entry=entry,
                labels=self._containers.launch_labels(launch),
                runtime=self._runtime,
                cgroup=group,
            )
            self._start_in(space, configuration)

    @contextmanager
    def _only_start_of(self, name: str) -> Iterator[None]:
        """Exclude a second caller: it would find the created container before its start, and start it too."""
        with self._guard:
            if name in self._starting:
                raise NameTaken(f"A container named {name} is being started.")
            self._starting.add(name)
        try:
            yield
        finally:
            with self._guard:
                self._starting.discard(name)

    def _check_files(self, image: str, *, identifier: str) -> AccountFiles:
        """Check the files of an image in a container without mounts that is never started, and read its
        accounts. The newest images are remembered."""
        known = self._checked.get(identifier)
        if known is not None:
            return known
        name = f"{CHECK}{secrets.token_hex(6)}"
        configuration = profile.unstarted(image, labels=self._containers.labels(name, given={}))
        container = self._engine.create(self._containers.engine_name(name), configuration)
        try:
            image_files.check(lambda path: self._engine.stat(container, path))
            accounts = AccountFiles(
                passwd=self._read(container, "/etc/passwd"), group=self._read(container, "/etc/group")
            )
            if self._engine.container(container) is None:  # so every path looked absent
                raise EngineUnavailable(f"The engine lost the container for the check of {image}.")
        finally:
            self._engine.remove(container)
        while len(self._checked) >= REMEMBERED:
            self._checked.pop(next(iter(self._checked)), None)
        self._checked[identifier] = accounts
        return accounts

    def _read(self, container: str, path: str) -> bytes:
        """An account file, which has been checked; empty if there is none."""
        target, found = image_files.followed(lambda each: self._engine.stat(container, each), path)
        return self._engine.read(container, target) if found is not None else b""

    def _start_created(self, name: str) -> bool:
        """Start a container that the engine created before it went away. Returns whether there was one."""
        container = self._engine.container(self._containers.engine_name(name))
        if container is None or container.state.status != "created":
            return False
        self._engine.start(container.id)
        return True

    def _start_in(self, space: Workspace, configuration: Mapping[str, Any]) -> None:
        """Create and start the container of a new workspace. Removes both when that fails."""
        try:
            container = self._create(space.name, configuration)
        except BaseException:
            space.remove()
            raise
        space.note_container(container)
        try:
            self._engine.start(container)
        except EngineUnavailable:
            raise  # the engine may have started it; the next call finds out
        except ContainerStuck:
            force(self._containers, space.name)
            raise
        except BaseException:
            self._engine.remove(container)
            space.remove()
            raise

    def _create(self, name: str, configuration: Mapping[str, Any]) -> str:
        """Create the container of a new workspace. One of this name that does not run is replaced: it
        was left without a workspace, or by a call whose answer was lost."""
        container = self._containers.engine_name(name)
        try:
            return self._engine.create(container, configuration)
        except NameTaken:
            found = self._engine.container(container)
            if found is not None and found.state.running:
                raise
        self._engine.remove(container)
        return self._engine.create(container, configuration)


def _check(launch: Launch) -> None:
    check_name(launch.name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", launch.input_name):
        raise ValueError(f"{launch.input_name!r} is not a valid name of an input file.")
    if not launch.input.is_file():
        raise SandboxError(f"The input file {launch.input} is not on this node.")
