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
        "application": "part_commands.application",
        "audit": "data_commands.audit",
        "courier": "part_commands.courier",
        "doctor": "instance_commands.doctor",
        "housekeeper": "part_commands.housekeeper",
        "importer": "part_commands.importer",
        "import": "data_commands.import_files",
        "init": "instance_commands.init",
        "launcher": "part_commands.launcher",
        "migrate": "instance_commands.migrate",
        "node": "node_commands.node",
        "promoter": "part_commands.promoter",
        "scanner": "part_commands.scanner",
        "status": "instance_commands.status",
        "tag": "user_commands.tag",
        "tidy": "data_commands.tidy",
        "token": "user_commands.token",
        "up": "instance_commands.up",
        "user": "user_commands.user",
        "worker": "part_commands.worker",
    }
)


@click.group(commands=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gridapps")
def main() -> None:
    """Run and administer an instance of GRiD Apps. Settings: GRIDAPPS_* variables."""
    os.umask(0o077)  # files that other accounts may read get their mode explicitly


if __name__ == "__main__":
    main()
