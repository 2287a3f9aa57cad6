"""The database's schema: brought up to date by the first machine alone; everybody else waits for it.

A schema newer than the program is no obstacle: what is added is optional and nothing is taken away, so a
worker of the previous version finishes what it holds. docs/cluster.md says in which order to upgrade.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE = 2.0  # seconds between two looks
_LOCK = 0x67726965  # PostgreSQL's advisory lock of who changes the schema


def migrate() -> None:
    """Bring it up to date; of two commands at once one does it, and the other waits and finds it done."""
    from django.conf import settings
    from django.core.management import call_command

    from gridapps.hooks.operations import seal_again

    with _alone():
        call_command("migrate", verbosity=0, interactive=False)
        if settings.SECRET_KEY_FALLBACKS:
            seal_again()


def wait(*, say: Callable[[str], None]) -> None:
    """Return when the database answers and its schema is at least this program's; say what is missing."""
    from django.db import OperationalError, close_old_connections

    told = ""
    while True:
        try:
            missing = _missing()
            text = (
                f"its schema lacks {missing}: start the first machine, or run `gridapps-server migrate` there"
            )
        except OperationalError as error:
            close_old_connections()
            missing, text = "everything", str(error).strip()
        if not missing:
            return
        if text != told:
            say(f"Waiting for the database: {text}")
            told = text
        time.sleep(PAUSE)


def _missing() -> str:
    """The first migration that has still to be applied, or nothing."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return f"{plan[0][0].app_label}.{plan[0][0].name}" if plan else ""


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
