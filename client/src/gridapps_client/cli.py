"""The `gridapps` command."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
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
    """Turns errors into a sentence, or with --json into JSON, on standard error, and into an exit code."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run the command, and exit with its code."""
        words = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in words
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that cannot show a character shows its number.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            status = super().main(words, *rest, **{**options, "standalone_mode": False})
        except GridAppsError as error:
            _tell(error, as_json=as_json)
            status = 2 if error.code == "usage" else 1
        except click.ClickException as error:
            if as_json:
                _tell(GridAppsError(error.format_message(), code="usage"), as_json=True)
            else:
                error.show()
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            _tell(GridAppsError("Interrupted.", code="interrupted"), as_json=as_json)
            status = 130
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            _tell(GridAppsError(f"{error.strerror or error}{where}.", code="disk"), as_json=as_json)
            status = 1
        sys.exit(status if isinstance(status, int) else 0)


def _tell(error: GridAppsError, *, as_json: bool) -> None:
    with contextlib.suppress(OSError):
        click.echo(json.dumps(error.as_json()) if as_json else f"gridapps: {plain(str(error))}", err=True)


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
