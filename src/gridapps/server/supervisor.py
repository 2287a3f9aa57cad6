"""The process that `gridapps-server up` becomes: it imports what the parts need, and forks them.

It has none of the secrets that only some parts may know (`plan`), and imports with the rights of an account
that cannot read the instance's keys. After the fork, a part reads its own environment and all settings again.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import click
from setproctitle import setproctitle

from gridapps.server import accounts, layout, plan, reserve
from gridapps.server.plan import Command, Plan
from gridapps.server.supervise import STOPPED_EARLY, Forked, NotStarted, Supervisor
from gridapps.storage import free_disk

# The modules of the parts, and those that their libraries import by name.
_MODULES = (
    "django.db.migrations.recorder",
    "django.db.models.sql.compiler",
    "gridapps.config.asgi",
    "gridapps.config.renewal",
    "gridapps.config.urls",
    "gridapps.hooks.courier",
    "gridapps.hooks.posting",
    "gridapps.promotion.promoter",
    "gridapps.promotion.scanner",
    "gridapps.runs.errors",
    "gridapps.server.application",
    "gridapps.server.cli",
    "gridapps.server.commands.part_commands",
    "gridapps.server.housekeeper",
    "gridapps.server.importer",
    "gridapps.server.node",
    "uvicorn.lifespan.off",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
)
_REHEARSAL = "rehearsal"  # a database


def main() -> None:
    """Run the parts of a plan until SIGINT or SIGTERM. In a forked process, be the part."""
    planned = plan.read(int(sys.argv[1]))
    try:
        _supervise(planned)
    except NotStarted as error:
        sys.exit(f"Error: {error}")
    except Forked as forked:
        child = forked
    else:
        return
    _be(child, Path(planned.data))


def _supervise(planned: Plan) -> None:
    data = Path(planned.data)
    supervisor = Supervisor(
        parts=planned.parts,
        data=data,
        say=_say,
        look=partial(_look_after_pushes, planned=planned),
        part_timeout=planned.part_timeout,
        group=planned.accounts.gid(accounts.EVERYBODY),
    )
    for number in plan.SIGNALS:
        signal.signal(number, lambda *_: supervisor.stop())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, plan.SIGNALS)
    setproctitle(f"gridapps supervisor {data}")
    with accounts.acting_as(planned.accounts.found.get("worker")):
        _preload()
    if not supervisor.start():
        _say(STOPPED_EARLY)
        return
    _say(f"GRiD Apps is up: {planned.origin} (CA: {data / 'authority' / 'ca.crt'}). Interrupt to stop.")
    supervisor.watch()
    _say("Stopped.")


def _preload() -> None:
    """Import what the parts need and run what all of them run first, so that they share the memory.

    Garbage is not collected before the fork: a part would fill the gaps with new objects and so copy the
    pages around them.
    """
    from django.db import connections

    gc.disable()
    for name in _MODULES:
        importlib.import_module(name)
    _rehearse()
    if (threads := threading.active_count()) != 1:
        raise NotStarted(f"The supervisor has {threads} threads, and can fork with one only.")
    if connections.all(initialized_only=True):
        raise NotStarted("The supervisor has connected to the database, and must not fork then.")
    gc.freeze()


def _rehearse() -> None:
    """Run the first steps of a part, with an empty database in memory.

    Python specialises code when it first runs, and Django computes much of a model at its first query: each
    part would do so in 5 MB of its own.
    """
    from django.db import connections
    from django.db.migrations.recorder import MigrationRecorder

    from gridapps.server import instance, schema

    instance.set_up_django(instance.environment().data.absolute())
    memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    # Under a name of its own: queries find their database by its name.
    settings = connections.configure_settings({"default": {}, _REHEARSAL: memory})
    connections.settings[_REHEARSAL] = settings[_REHEARSAL]
    recorder = MigrationRecorder(connections[_REHEARSAL])
    recorder.ensure_schema()
    recorder.record_applied("supervisor", "rehearsed")
    schema.missing(recorder)
    connections[_REHEARSAL].connection.close()  # Django keeps a database in memory open
    del connections[_REHEARSAL], connections.settings[_REHEARSAL]


def _be(child: Forked, data: Path) -> None:
    """Run a part that is a command of this program."""
    part = child.part
    assert isinstance(part.runs, Command)
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - names
        if descriptor > 2 and descriptor not in child.kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(descriptor)
    setproctitle(f"gridapps {part.name} {data}")
    gc.enable()
    os.environ.clear()
    os.environ.update(plan.unsealed(part.runs.environment))
    os.close(part.runs.environment)
    from gridapps.server.cli import main as command

    command(part.runs.words, prog_name="gridapps-server")


def _look_after_pushes(process: int, *, planned: Plan) -> None:
    """Do what only root can for the parts that share the developer registry's storage, and for the disk."""
    from gridapps.pki.tokens import Registry
    from gridapps.pushes.disk import NOTE, STORAGE, note_opened

    data, accounts, floor = Path(planned.data), planned.accounts, planned.min_free_disk
    reserve.settle(data, floor=floor)
    receives = note_opened(process, data / NOTE, group=accounts.gid("registry"))
    if receives and free_disk.measure(data / STORAGE[Registry.DEVELOPER], floor=floor // 2).is_short:
        # Other programs fill the disk: no upload takes more. New ones are refused.
        _say("The disk is nearly full: the uploads to the developer registry are ended.")
        os.kill(process, signal.SIGTERM)
    asked = data / layout.OPEN_BLOBS
    if asked.is_file() and not asked.is_symlink():
        layout.open_blobs(data / STORAGE[Registry.DEVELOPER], accounts)
        asked.unlink(missing_ok=True)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the reader has gone, or the disk is full
        click.echo(text, err=True)


if __name__ == "__main__":
    main()
