"""Commands check the database's schema and change nothing; `migrate`, `init` and `up` bring it up to date."""

import subprocess

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from gridapps.server import schema
from tests.fixtures.instance import SERVER, Instance, new_instance


@pytest.mark.django_db
def test_a_complete_schema_passes() -> None:
    schema.check()


@pytest.mark.django_db
@pytest.mark.parametrize("name", [("runs", "0001_initial"), ("oauth2_provider", "0001_initial")])
def test_a_missing_migration_is_named(name: tuple[str, str]) -> None:
    MigrationRecorder(connection).record_unapplied(*name)
    with pytest.raises(schema.Behind, match=r"\.".join(name)):
        schema.check()


@pytest.mark.django_db
def test_a_newer_schema_passes() -> None:
    MigrationRecorder(connection).record_applied("runs", "9999_of_the_next_version")
    schema.check()


@pytest.mark.service
def test_a_command_refuses_an_old_schema_and_migrate_mends_it() -> None:
    instance = new_instance()
    try:
        assert _run(instance, "init").returncode == 0
        (database,) = instance.data.glob("**/gridapps.sqlite3")
        for path in database.parent.glob("gridapps.sqlite3*"):
            path.unlink()
        refused = _run(instance, "user", "create", "ann")
        assert refused.returncode == 1
        assert "The database is older than this program" in refused.stderr
        assert "gridapps-server migrate" in refused.stderr
        assert _run(instance, "migrate").returncode == 0
        assert _run(instance, "user", "create", "ann").returncode == 0
    finally:
        instance.remove()


def _run(instance: Instance, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [str(SERVER), *words]
    return subprocess.run(command, env=instance.environment, capture_output=True, text=True, check=False)
