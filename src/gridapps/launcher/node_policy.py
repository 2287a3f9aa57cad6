"""What a worker may ask for. The launcher checks it because the worker may be compromised."""

import re
from dataclasses import dataclass

from gridapps.sandbox.protocol import Limits, inodes_for

_REPOSITORY = r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*"
_DIGEST = r"sha256:[0-9a-f]{64}"
_FIXED = ("processes", "open_files")
_OF_ONE_CONTAINER = Limits(cpus=1, memory=1, disk=1)  # the fixed limits of the container contract


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The registries of the instance as `host:port`, and the limits of the node."""

    registries: tuple[str, ...]
    cpus: float
    memory: int  # bytes
    disk: int  # bytes, of outputs and of the log
    outputs: int  # files of one container that are collected
    containers: int  # that exist at once, also those that have ended

    def is_ours(self, image: str) -> bool:
        """Whether a reference names an image of this instance by its digest."""
        registries = "|".join(map(re.escape, self.registries))
        return bool(re.fullmatch(rf"(?:{registries})/{_REPOSITORY}@{_DIGEST}", image))

    def check_limits(self, limits: Limits) -> None:
        """Raise ValueError for limits that exceed the node or the container contract."""
        most = {
            "cpus": self.cpus,
            "memory": self.memory,
            "disk": self.disk,
            "log": self.disk,
            "outputs": self.outputs,
            "inodes": inodes_for(self.outputs),
            **{name: getattr(_OF_ONE_CONTAINER, name) for name in _FIXED},
        }
        for name, largest in most.items():
            asked = getattr(limits, name)
            if not 0 < asked <= largest:
                raise ValueError(f"A container on this node gets {name} up to {largest}, not {asked}.")
