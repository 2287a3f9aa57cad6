"""Commands that run a part of an instance until interrupted. `up` runs most of them by itself."""

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import click

from gridapps.config.environment import Environment
from gridapps.server.commands.node_commands import BUNDLE, certificates_option
from gridapps.server.commands.terminal import say
from gridapps.server.instance import (
    Unusable,
    accounts_of,
    environment,
    prepare_node,
    prepare_worker,
    set_up_django,
)
from gridapps.server.join import join

if TYPE_CHECKING:
    from gridapps.hooks.courier import Courier


@click.command()
@click.option("--node", "name", help="name of this node  [default: GRIDAPPS_NODE, or the one it joined as]")
@click.option("--join", "bundle", type=BUNDLE, help="make this machine a node first: see `node join`")
@certificates_option
@click.option("--no-launcher", is_flag=True, help="use a launcher that was started separately")
def worker(name: str | None, bundle: BinaryIO | None, certificates: Path, no_launcher: bool) -> None:
    """Work on this node until interrupted (`up` starts one by itself), with a launcher beside it.

    Waits while the database is unreachable or its schema is older than this program.
    """
    if bundle is not None:
        join(environment().data.absolute(), bundle.read(), certificates=certificates, say=say)
    if name is not None:
        os.environ["GRIDAPPS_NODE"] = name
    if not no_launcher:
        _work_with_launcher()
    settings = prepare_worker(say=say)
    from gridapps.runs.errors import NodeTaken
    from gridapps.server.node import hearing, worker_of

    with worker_of(settings, say=say) as mine, hearing(settings):
        _on_interrupt(mine.stop)
        try:
            mine.run()
        except NodeTaken as error:
            raise Unusable(str(error)) from None


def _work_with_launcher() -> NoReturn:
    """Be the parent of launcher and worker."""
    settings = prepare_node()
    from gridapps.server import accounts, surroundings
    from gridapps.server.launching import run_with_worker

    ours = accounts_of(settings)
    for sentence in ours.missing({"worker"}):
        say(sentence)
    os.environ["GRIDAPPS_NODE"] = settings.node
    command = [sys.executable, "-P", "-m", "gridapps.server.cli", "worker", "--no-launcher"]
    sys.exit(
        run_with_worker(
            settings,
            owner=ours.uid("worker"),
            worker=[*accounts.command(ours.found.get("worker")), *command],
            environment=surroundings.environment_of_part(
                "worker", settings, account=ours.found.get("worker")
            ),
        )
    )


@click.command()
def launcher() -> None:
    """Start containers for this node's worker until interrupted, as root (`worker` starts one by itself).

    It is the only process of a node that needs to be root. It has no network and no database.
    """
    settings = prepare_node()
    from gridapps.server.launching import clean_environment, configuration

    command = configuration(settings, owner=accounts_of(settings).uid("worker")).command(sys.executable)
    os.execve(command[0], command, clean_environment())  # noqa: S606 - it takes this process's place


@click.command(hidden=True)
@click.option("--socket", type=click.Path(path_type=Path), required=True)
def application(socket: Path) -> None:
    """Serve pages and API at a unix socket until interrupted (`up` starts some by itself)."""
    prepare_worker(say=say)
    from gridapps.server.application import serve

    serve(socket)


@click.command()
def courier() -> None:
    """Deliver hook events until interrupted (`up` starts one by itself).

    Any node may run more of them. Waits while the database is unreachable or its schema is older.
    """
    mine = courier_of(prepare_worker(say=say, rights="courier"))
    _on_interrupt(mine.stop)
    mine.run()


def courier_of(settings: Environment) -> "Courier":
    """A courier as configured, not running yet. Raises Unusable when the CA file cannot be read."""
    from gridapps.hooks.courier import Courier
    from gridapps.hooks.posting import Poster

    try:
        poster = Poster(rules=settings.hook_rules(), timeout=settings.hook_timeout, ca=settings.hook_ca)
    except OSError as error:  # also ssl.SSLError
        raise Unusable(f"GRIDAPPS_HOOK_CA cannot be read: {error}") from None
    return Courier(poster=poster, lease=timedelta(seconds=settings.lease), pause=settings.hook_pause)


@click.command()
def promoter() -> None:
    """Copy shared releases into the trusted registry until interrupted (`up` starts one by itself)."""
    prepare_worker(say=say, rights="promoter")
    from gridapps.promotion.promoter import Promoter

    os.umask(0o027)  # the scanner, in the group of `scans`, reads the images that are laid out there
    mine = Promoter()
    _on_interrupt(mine.stop)
    mine.run()


@click.command(hidden=True)
def scanner() -> None:
    """Run the operator's scanner on images until interrupted (`up` starts one by itself)."""
    settings = environment()
    data = settings.data.absolute()
    set_up_django(data)
    from gridapps.promotion.scanner import Scanner

    _on_interrupt(sys.exit)
    Scanner(data, command=settings.scanner, timeout=settings.scanner_timeout).run()


@click.command()
def housekeeper() -> None:
    """Periodically remove unneeded images and leftovers, until interrupted (`up` starts one by itself)."""
    settings = prepare_worker(say=say, rights="housekeeper")
    from gridapps.server.housekeeper import keep_house

    _on_interrupt(sys.exit)
    keep_house(settings.data.absolute())


@click.command()
def importer() -> None:
    """Check uploads until interrupted, and remove files of deleted exports (`up` starts one by itself)."""
    prepare_worker(say=say, rights="importer")
    from gridapps.server.importer import Importer

    mine = Importer()
    _on_interrupt(mine.stop)
    mine.run()


def _on_interrupt(stop: Callable[[], object]) -> None:
    """Call `stop` at SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())
