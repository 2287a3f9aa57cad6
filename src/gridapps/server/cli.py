"""The `gridapps-server` command. Its commands are imported one at a time, so that each starts quickly."""

import os
from collections import UserDict
from importlib import import_module
from typing import Any

import click


class _Commands(UserDict[str, Any]):
    """Commands by name. A value is `module.function` below `gridapps.server.commands`."""

    def __getitem__(self, name: str) -> click.Command:
        module, _, function = super().__getitem__(name).partition(".")
        command: click.Command = getattr(import_module(f"gridapps.server.commands.{module}"), function)
        return command


_COMMANDS = _Commands(
    {
        "application": "parts.application",
        "audit": "data.audit",
        "courier": "parts.courier",
        "doctor": "instance.doctor",
        "housekeeper": "parts.housekeeper",
        "importer": "parts.importer",
        "import": "data.import_files",
        "init": "instance.init",
        "launcher": "parts.launcher",
        "migrate": "instance.migrate",
        "node": "nodes.node",
        "promoter": "parts.promoter",
        "scanner": "parts.scanner",
        "status": "instance.status",
        "tag": "users.tag",
        "tidy": "data.tidy",
        "token": "users.token",
        "up": "instance.up",
        "user": "users.user",
        "worker": "parts.worker",
    }
)


@click.group(commands=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gridapps")
def main() -> None:
    """Run and administer an instance of GRiD Apps. Settings: GRIDAPPS_* variables."""
    os.umask(0o077)  # files that other accounts may read get their mode explicitly


if __name__ == "__main__":
    main()
