"""Commands for the instance as a whole: start it, bring it up to date, examine it."""

import json
import signal
import sys
import threading

import click

from gridapps.server.commands.terminal import say
from gridapps.server.instance import environment, prepare, prepare_look


@click.command()
@click.option(
    "--no-worker", is_flag=True, help="leave all work to other nodes; no container engine is needed"
)
def up(no_worker: bool) -> None:
    """Start the instance and stay until interrupted."""
    # Before the imports: an exception that a signal raises during an import may be swallowed there.
    interrupted = _catch_interrupts()
    from gridapps.server.creation import create

    settings = create()
    from gridapps.server.up import up as run

    run(settings, works=not no_worker, interrupted=interrupted, say=say)


@click.command()
def init() -> None:
    """Make the instance in GRIDAPPS_DATA, or bring one of an older version up to date. `up` does this too."""
    from gridapps.server.creation import create

    settings = create()
    click.echo(f"The instance in {settings.data.absolute()} is ready: gridapps-server up starts it.")


@click.command()
def migrate() -> None:
    """Bring the database up to date, on the first machine. `up` does this too."""
    prepare(migrate=True)
    click.echo("The database is up to date.")


@click.command()
@click.option("--no-worker", is_flag=True, help="this machine leaves all work to other nodes")
def doctor(no_worker: bool) -> None:
    """Check engine, programs, permissions, disk and ports, and say what to do."""
    from gridapps.server.doctor import examine

    faults = 0
    for finding in examine(environment(), works=not no_worker, thorough=True):
        faults += bool(finding.fault)
        state = "FAULT" if finding.fault else "warn" if finding.warning else "ok"
        click.echo(f"{state:6}{finding.check:18}{finding.detail}")
        if said := finding.fault or finding.warning:
            click.echo(f"      {said}")
    sys.exit(1 if faults else 0)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON and nothing else")
def status(as_json: bool) -> None:
    """Show parts, disk, queue, running tasks, nodes and hooks. Exit status 0 only if all is well."""
    settings = prepare_look()
    from gridapps.server import status as page

    found = page.examine(settings)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(page.lines(found)))
    sys.exit(1 if found["faults"] else 0)


def _catch_interrupts() -> threading.Event:
    """An event that the first SIGINT or SIGTERM sets. The second one ends the command at once."""
    interrupted = threading.Event()

    def note(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return interrupted
