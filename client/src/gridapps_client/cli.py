"""The `gridapps` command."""

from __future__ import annotations

import sys
from typing import Any

import click

from gridapps_client.commands.account import developer, login, logout, whoami
from gridapps_client.commands.app import app
from gridapps_client.commands.certificates import certificate
from gridapps_client.commands.exports import exports
from gridapps_client.commands.hooks import hook
from gridapps_client.commands.images import push
from gridapps_client.commands.outputs import outputs
from gridapps_client.commands.run import run
from gridapps_client.commands.runs import logs, runs
from gridapps_client.commands.shared import INSTANCE, JSON, choose
from gridapps_client.commands.sharing import block, share, unblock
from gridapps_client.errors import GridAppsError
from gridapps_client.text import plain


class _Commands(click.Group):
    """Turns errors into a sentence on standard error and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GridAppsError as error:
            click.echo(f"gridapps: {plain(str(error))}", err=True)
            sys.exit(2 if error.code == "usage" else 1)
        except KeyboardInterrupt:
            sys.exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gridapps-client", message="gridapps %(version)s")
@JSON
@INSTANCE
@click.pass_context
def main(context: click.Context, as_json: bool, url: str | None) -> None:
    """Run algorithms in images on point clouds of a GRiD Apps instance.

    Environment: GRIDAPPS_URL, GRIDAPPS_TOKEN, GRIDAPPS_CA, GRIDAPPS_CONFIG (a directory).
    """
    choose(context, as_json=as_json, url=url)


for _command in (
    login,
    logout,
    whoami,
    developer,
    app,
    certificate,
    push,
    share,
    block,
    unblock,
    run,
    runs,
    logs,
    outputs,
    exports,
    hook,
):
    main.add_command(_command)
