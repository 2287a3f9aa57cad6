"""A worker of an earlier version works with a newer schema: additions are optional."""

from collections.abc import Iterator, Sequence

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import (
    AddField,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
    SeparateDatabaseAndState,
)
from django.db.migrations.operations.base import Operation
from django.db.models import NOT_PROVIDED
from django.utils import timezone

from gridapps.runs import queue
from gridapps.runs.states import State
from tests.runs.test_queue import LEASE

OURS = ("access", "exports", "registry", "runs", "hooks")
FIRST = [("access", "0002_command_line_client"), *((name, "0001_initial") for name in OURS[1:4])]


def test_no_migration_takes_anything_away_or_demands_what_an_older_program_does_not_write():
    graph = MigrationExecutor(None).loader.disk_migrations
    ours = {key: migration for key, migration in graph.items() if key[0] in OURS}
    assert ours
    for (app, name), migration in ours.items():
        new = {each.name_lower for each in migration.operations if isinstance(each, CreateModel)}
        for operation in _on_the_database(migration.operations):
            where = f"{app}.{name}: {operation.describe()}"
            assert not isinstance(operation, DeleteModel | RemoveField | RenameField | RenameModel), where
            if isinstance(operation, AddField) and operation.model_name_lower not in new:
                field = operation.field
                optional = field.null or field.many_to_many or field.db_default is not NOT_PROVIDED
                assert optional, f"{where}: it has to be nullable or have a db_default"


def _on_the_database(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Without operations that change only the models."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from _on_the_database(operation.database_operations)
        else:
            yield operation


@pytest.mark.django_db
def test_the_models_of_the_first_version_write_into_todays_schema(make_run, cast):
    """What a worker of that version writes with its own models: an attempt, its outputs, an end."""
    make_run(points=(1,))
    claim = queue.claim(node="new", lease=LEASE)
    assert claim is not None
    old = MigrationExecutor(connection).loader.project_state(FIRST).apps
    task = old.get_model("runs", "Task").objects.get(pk=claim.task)
    old.get_model("runs", "Attempt").objects.create(
        task=task, number=2, node="old", started_at=timezone.now(), usage={}
    )
    old.get_model("runs", "Output").objects.create(
        task=task, path="a", size=1, sha256="0" * 64, media_type="text/plain"
    )
    task.state, task.token, task.lease_until, task.ended_at = State.SUCCESS, None, None, timezone.now()
    task.save()
    run = old.get_model("runs", "Run").objects.get(pk=claim.run)
    run.pk, run.request_key = None, None
    old.get_model("runs", "Run").objects.create(
        **{
            field.attname: getattr(run, field.attname)
            for field in run._meta.concrete_fields
            if field.name not in {"id", "state", "started_at", "ended_at", "reason", "progress"}
        }
    )
    assert old.get_model("runs", "Run").objects.count() == 2
