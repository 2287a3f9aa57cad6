"""What a launcher is started with, as one JSON text on its command line: nothing of it is secret."""

from pathlib import Path
from typing import Literal

import msgspec


class LauncherConfiguration(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Sizes in bytes. `owner` is the worker's account, beside root the only one that may connect."""

    socket: str
    owner: int
    connections: int
    engine: str
    instance: str
    scratch: str
    inputs: str
    quota: Literal["loop", "watchdog"]
    runtime: str
    user_ids: tuple[int, int]  # the first and the last of those that containers get
    registries: tuple[str, ...]
    cpus: float
    memory: int
    disk: int
    containers: int
    log_format: Literal["json", "text"] = "json"

    def command(self, python: str | Path) -> list[str]:
        """How the launcher is started."""
        return [str(python), "-I", "-m", "gridapps.launcher", msgspec.json.encode(self).decode()]
