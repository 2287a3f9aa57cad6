"""The database's schema. `up`, `init` and `migrate` on the first machine bring it up to date. Workers wait
for that; other commands check the schema and change nothing.

A schema newer than the program is accepted: migrations only add optional columns and tables, so a worker of
the previous version finishes its tasks. docs/cluster.md gives the order of an upgrade.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.migrations.recorder import MigrationRecorder

PAUSE = 2.0  # seconds between two looks
_FIRST_PAUSES = (0.1, 0.3, 1.0)  # seconds; several processes that open an SQLite file at once can collide
_LOCK = 0x67726965  # PostgreSQL advisory lock for changes of the schema


class Behind(Exception):
    """The schema is older than this program; the message says what to do."""


def migrate() -> None:
    """Bring the schema up to date. Concurrent commands wait for each other."""
    from django.conf import settings
    from django.core.management import call_command

    from gridapps.hooks.operations import seal_again

    with _alone():
        call_command("migrate", verbosity=0, interactive=False)
        if settings.SECRET_KEY_FALLBACKS:
            seal_again()


def wait(*, say: Callable[[str], None]) -> None:
    """Wait until the database answers and its schema is up to date; say what it waits for."""
    from django.db import OperationalError, close_old_connections

    said = ""
    for pause in chain(_FIRST_PAUSES, repeat(PAUSE)):
        try:
            lacking = _lacking()
            text = (
                f"its schema lacks {lacking}: start the first machine, or run `gridapps-server migrate` there"
            )
        except OperationalError as error:
            close_old_connections()
            lacking, text = "everything", str(error).strip()
        if not lacking:
            return
        if text != said and pause == PAUSE:
            say(f"Waiting for the database: {text}")
            said = text
        time.sleep(pause)


def check() -> None:
    """Raise Behind when the schema is older than this program. Reads one table; imports no migration."""
    if name := _lacking():
        raise Behind(
            f"The database is older than this program: it lacks {name}. Run `gridapps-server migrate` on the "
            "first machine, or start `gridapps-server up` there again."
        )


def _lacking() -> str:
    from django.db import connection
    from django.db.migrations.recorder import MigrationRecorder

    return missing(MigrationRecorder(connection))


def missing(recorder: "MigrationRecorder") -> str:
    """The first migration that is not applied, or an empty string."""
    from django.apps import apps

    applied = recorder.applied_migrations()
    for application in apps.get_app_configs():
        directory = Path(application.path) / "migrations"
        for name in sorted(module.name for module in iter_modules([str(directory)])):
            if (application.label, name) not in applied:
                return f"{application.label}.{name}"
    return ""


@contextmanager
def _alone() -> Iterator[None]:
    from django.db import connection

    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
