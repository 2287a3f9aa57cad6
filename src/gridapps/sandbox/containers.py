"""The containers and workspaces of one instance on this node: their names, labels and directories."""

import json
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path

from gridapps.sandbox import cgroup
from gridapps.sandbox.engine.calls import Engine
from gridapps.sandbox.engine.responses import Listed
from gridapps.sandbox.protocol import NAME, Launch
from gridapps.sandbox.workspace import Workspace

_INSTANCE = "gridapps.instance"
_NAMED = "gridapps.name"
# The caller's labels are one JSON text, so that labels of an image cannot add to them.
_LABELS = "gridapps.labels"


class Containers:
    """The containers of an instance. The engine must see `scratch` under the same path."""

    def __init__(self, name: str, *, engine: Engine, scratch: Path) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid instance name: use [a-z0-9-], at most 100 characters.")
        self.engine = engine
        self.scratch = scratch.absolute()
        self._name = name
        self._cgroup = ""

    def prepare(self) -> str:
        """Create the scratch directory and the control group of all containers, once; returns the group."""
        if not self._cgroup:
            self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._cgroup = cgroup.prepare(self.engine.info(), instance=self._name)
        return self._cgroup

    def release(self) -> None:
        """Remove the control group if no container is in it."""
        cgroup.release(instance=self._name)
        self._cgroup = ""

    def engine_name(self, name: str) -> str:
        """The engine's name of a container."""
        return f"gridapps-{self._name}-{name}"

    def labels(self, name: str, *, given: Mapping[str, str]) -> dict[str, str]:
        """The labels of a container; `given` are the caller's."""
        return {_INSTANCE: self._name, _NAMED: name, _LABELS: json.dumps(dict(given))}

    def launch_labels(self, launch: Launch) -> dict[str, str]:
        return {
            **self.labels(launch.name, given=launch.labels),
            "gridapps.deadline": launch.deadline.astimezone(UTC).isoformat(),
        }

    def listed(self) -> dict[str, Listed]:
        """All containers by name."""
        found = self.engine.containers(label=f"{_INSTANCE}={self._name}")
        return {(container.labels or {})[_NAMED]: container for container in found}

    def engine_id(self, name: str) -> str:
        """The engine's id of a container, or "". Lists all, because a call about this one may hang."""
        noted = self.space(name).container()
        if noted:
            return noted
        found = self.listed().get(name)
        return found.id if found else ""

    def space(self, name: str) -> Workspace:
        """The workspace of this name, whether it exists or not. Raises KeyError for an invalid name."""
        if not NAME.fullmatch(name):
            raise KeyError(name)
        return Workspace(self.scratch / name)

    def spaces(self) -> list[Workspace]:
        """All workspaces."""
        if not self.scratch.is_dir():
            return []
        return [Workspace(path) for path in self.scratch.iterdir() if NAME.fullmatch(path.name)]


def given_labels(container: Listed) -> Mapping[str, str]:
    """The labels that the caller gave a container."""
    given: dict[str, str] = json.loads((container.labels or {})[_LABELS])
    return given
