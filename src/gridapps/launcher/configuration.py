"""The configuration of a launcher: one JSON text on its command line, without secrets."""

from pathlib import Path
from typing import Literal

import msgspec


class LauncherConfiguration(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Sizes in bytes. `owner` is the worker's account, which may connect, as root may."""

    socket: str
    owner: int
    connections: int
    engine: str
    instance: str
    scratch: str
    inputs: str
    quota: Literal["loop", "watchdog"]
    runtime: str
    user_ids: tuple[int, int]  # first and last of those that containers get
    registries: tuple[str, ...]
    cpus: float
    memory: int
    disk: int
    outputs: int  # files of one container
    containers: int
    log_format: Literal["json", "text"] = "json"

    def command(self, python: str | Path) -> list[str]:
        """The command that starts the launcher."""
        return [str(python), "-I", "-m", "gridapps.launcher", msgspec.json.encode(self).decode()]
