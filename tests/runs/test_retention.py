"""Outputs are removed by policy or by their user: no row without files stays, and no file without a row."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gridapps.access.models import User
from gridapps.audit.models import Entry
from gridapps.housekeeping import lost_outputs as tidying
from gridapps.housekeeping import output_files
from gridapps.runs import operations, queries, retention, store
from gridapps.runs.errors import Conflict, OutputsRemoved, QuotaExceeded
from gridapps.runs.models import Output, Run, Task
from gridapps.runs.store import AttemptFiles, CollectedFile
from gridapps.storage.choice import current
from gridapps.storage.interface import Missing, StorageUnavailable
from tests.fixtures.s3 import BUCKET, CREDENTIALS, S3Server

pytestmark = pytest.mark.django_db(transaction=True)
DAYS = 30
CONTENT = b"heights"
SHA256 = "9" * 64


@pytest.fixture(params=["directory", "s3"])
def data(request, tmp_path: Path, settings, monkeypatch) -> Path:
    settings.DATA, settings.STORAGE = tmp_path, ""
    (tmp_path / "outputs").mkdir()
    changes: dict[str, object] = {"keep_outputs": DAYS}
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        settings.STORAGE, changes["s3_endpoint"] = f"s3://{BUCKET}/p", server.endpoint
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update=changes)
    return tmp_path


def left_by(run: Run, *, age: float) -> Run:
    """End the run `age` days ago: its tasks succeeded and each left an output and a log."""
    ended = timezone.now() - timedelta(days=age)
    Task.objects.filter(run=run).update(state="SUCCESS", attempt=1, ended_at=ended, progress=1)
    Run.objects.filter(pk=run.pk).update(state="SUCCESS", ended_at=ended, progress=1)
    for task in run.tasks.all():
        place = AttemptFiles(run.pk, task.index, 1)
        place.make()
        place.files.mkdir()
        (place.files / "dtm.tif").write_bytes(CONTENT)
        place.log.write_text("x\n")
        kept: dict[str, Any] = {
            "path": "dtm.tif",
            "size": len(CONTENT),
            "sha256": SHA256,
            "media_type": "image/tiff",
        }
        place.publish([CollectedFile(**kept)])
        Output.objects.create(task=task, **kept)
        place.leave()
    run.refresh_from_db()
    return run


def sweep() -> list[str]:
    return list(output_files.sweep())


def lying() -> set[UUID]:
    """The runs that have files in the storage."""
    top = current().local("outputs")
    if top is not None:
        return {UUID(path.relative_to(top).parts[0]) for path in top.rglob("*") if path.is_file()}
    return {UUID(entry.key.split("/")[1]) for entry in current().entries("outputs/")}


def test_old_outputs_go_and_the_run_stays(data: Path, make_run) -> None:
    old = left_by(make_run(points=(1, 1)), age=DAYS + 1)
    young, active = left_by(make_run(), age=DAYS - 1), make_run()
    assert young.ended_at
    assert retention.expire_at(young) == young.ended_at + timedelta(days=DAYS)
    assert retention.expire_at(active) is None
    assert list(output_files.plan()) == [f"outputs/{old.pk}"]
    assert lying() == {old.pk, young.pk}
    assert sweep() == [f"outputs/{old.pk}"]
    assert sweep() == []
    assert lying() == {young.pk}
    assert [queries.outputs(run).count() for run in (old, young)] == [0, 1]
    before = old.version
    old.refresh_from_db()
    assert (old.state, old.version, old.files_left) == ("SUCCESS", before + 1, False)
    assert retention.expire_at(old) is None
    with pytest.raises(OutputsRemoved, match=f"removed on {timezone.now():%Y-%m-%d}"):
        retention.require_kept(old)
    (entry,) = Entry.objects.filter(event="outputs.removed")
    assert (entry.actor, entry.subject, entry.details) == ("instance", f"run:{old.pk}", {"outputs": 2})


def test_without_a_policy_everything_stays(data: Path, make_run, settings) -> None:
    run = left_by(make_run(), age=10_000)
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"keep_outputs": 0})
    assert sweep() == []
    assert lying() == {run.pk}
    assert retention.expire_at(run) is None


def test_a_user_removes_them_at_once_and_has_room_again(data: Path, make_run, settings) -> None:
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"max_outputs": 2 * 10**6})
    run = left_by(make_run(), age=0)
    Output.objects.update(size=1_500_000)
    Task.objects.update(state="FAILURE", reason="program-failed")
    with pytest.raises(QuotaExceeded, match="delete the outputs of runs"):
        operations.retry(by=run.owner, run=run)
    for _ in range(2):
        retention.remove(by=run.owner, run=run)
        assert queries.outputs(run).count() == 0
    operations.retry(by=run.owner, run=run)
    assert lying() == {run.pk}, "a worker removes the files"
    assert retention.has_files_left()
    assert sweep() == [f"outputs/{run.pk}"]
    assert not retention.has_files_left()
    assert sweep() == []
    assert lying() == set()
    assert [entry.actor for entry in Entry.objects.filter(event="outputs.removed")] == [
        f"user:{run.owner_id}"
    ]


def test_of_an_active_run_nothing_can_be_removed(data: Path, make_run) -> None:
    run = make_run()
    for state in ("QUEUED", "RUNNING"):
        Run.objects.update(state=state)
        with pytest.raises(Conflict, match="has not ended"):
            retention.remove(by=run.owner, run=run)


def test_a_storage_that_is_away_loses_nothing(data: Path, make_run, request) -> None:
    runs = [left_by(make_run(), age=DAYS + 2 - n) for n in range(2)]
    if current().local("outputs") is not None:
        (data / "outputs").rename(data / "unmounted")
    else:
        request.getfixturevalue("s3").stop()
    with pytest.raises(StorageUnavailable):
        sweep()
    assert Run.objects.get(files_left=True) == runs[0], "the rest is not started"
    assert Output.objects.count() == 1
    if current().local("outputs") is not None:
        (data / "unmounted").rename(data / "outputs")
    else:
        request.getfixturevalue("s3").start()
    assert sweep() == [f"outputs/{run.pk}" for run in runs]
    assert lying() == set()


def test_a_user_need_not_wait_for_a_storage_that_is_away(data: Path, make_run, monkeypatch) -> None:
    run = left_by(make_run(), age=0)

    def away(_key: str) -> None:
        raise StorageUnavailable("The S3 storage does not answer.")

    with monkeypatch.context() as broken:
        broken.setattr(current(), "remove", away)
        retention.remove(by=run.owner, run=run)
    assert queries.outputs(run).count() == 0
    assert sweep() == [f"outputs/{run.pk}"]


def test_what_cannot_be_removed_keeps_nobody_else_waiting(data: Path, make_run, monkeypatch) -> None:
    runs = [left_by(make_run(), age=DAYS + 2 - n) for n in range(2)]
    real = current().remove

    def remove(key: str) -> None:
        if str(runs[0].pk) in key:
            raise PermissionError(13, "Permission denied")
        real(key)

    monkeypatch.setattr(current(), "remove", remove)
    assert sweep() == [f"outputs/{runs[1].pk}"]
    assert list(Run.objects.filter(files_left=True)) == [runs[0]]
    monkeypatch.undo()


def test_an_output_that_is_being_read_breaks_off_or_goes_on(data: Path, make_run) -> None:
    run = left_by(make_run(), age=0)
    output = queries.outputs(run).get()
    path = store.path(output)
    opened = path.open("rb") if path else None
    retention.remove(by=run.owner, run=run)
    sweep()
    if opened:
        with opened:
            assert opened.read() == CONTENT
    else:
        with pytest.raises(Missing):
            list(store.read(output))


def test_tidy_finds_what_a_late_attempt_leaves(data: Path, make_run) -> None:
    run = left_by(make_run(), age=DAYS + 1)
    sweep()
    place = AttemptFiles(run.pk, 0, 1)
    place.make()
    place.log.write_text("late\n")
    place.publish([])
    assert tidying.tidy() == [place.key]
    assert lying() == set()


SWEEPER = """
import os, signal, sys
import django
django.setup()
from gridapps.storage.choice import current
from gridapps.housekeeping import output_files
real = current().remove

def remove(key):
    if moment == "half way":
        real(f"{key}/0")
    elif moment == "after the files":
        real(key)
    os.kill(os.getpid(), signal.SIGKILL)

current().remove = remove
for moment in ("before the files", "half way", "after the files"):
    if (child := os.fork()) == 0:
        list(output_files.sweep())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    print(moment, flush=True)
    sys.stdin.readline()
"""


def test_killed_in_the_middle_again_and_again(data: Path, make_run, settings) -> None:
    """A process killed during a removal leaves neither a row without its file nor a file that stays."""
    runs = [left_by(make_run(points=(1, 1)), age=DAYS + 9 - n) for n in range(3)]
    environment = dict(
        os.environ, GRIDAPPS_DATA=str(data), GRIDAPPS_STORAGE=settings.STORAGE,
        GRIDAPPS_S3_ENDPOINT=settings.GRIDAPPS.s3_endpoint, GRIDAPPS_KEEP_OUTPUTS=str(DAYS),
        GRIDAPPS_DATABASE=_database(data),
    )  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", SWEEPER], env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE,
        text=True,
    ) as sweepers:  # fmt: skip
        assert sweepers.stdout
        assert sweepers.stdin
        for moment in ("before the files", "half way", "after the files"):
            assert sweepers.stdout.readline().strip() == moment
            rows = set(Output.objects.values_list("task__run", flat=True))
            marked = set(Run.objects.filter(files_left=True).values_list("pk", flat=True))
            assert rows == {run.pk for run in runs[1:]}
            assert rows <= lying() <= rows | marked
            assert marked == {runs[0].pk}
            sweepers.stdin.write("on\n")
            sweepers.stdin.flush()
    assert sweepers.returncode == 0
    assert sweep() == [f"outputs/{run.pk}" for run in runs]
    assert lying() == set()
    assert not Run.objects.filter(files_left=True).exists()


def _database(data: Path) -> str:
    """The tests' database, as a setting of another process."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "postgresql":
        return f"{os.environ['GRIDAPPS_DATABASE'].rpartition('/')[0]}/{name}"
    (data / "database").mkdir()
    (data / "database" / "gridapps.sqlite3").symlink_to(name)
    return ""


def test_looking_costs_nothing_however_long_the_history_is(data: Path, make_run) -> None:
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert sweep() == []
    plans = []
    for query in (query["sql"] for query in asked if "SELECT" in query["sql"] and "runs_run" in query["sql"]):
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET enable_seqscan = off")
                cursor.execute(f"EXPLAIN {query}")
            else:
                cursor.execute(f"EXPLAIN QUERY PLAN {query}")
            plans.append(" ".join(str(row) for row in cursor.fetchall()))
    assert ["run_with_files_left" in plans[0], "run_with_outputs" in plans[1]] == [True, True], plans


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("run_outputs_removed_after_its_end", {"outputs_removed_at": timezone.now()}),
        ("run_files_left_of_what_was_removed", {"files_left": True}),
    ],
)
def test_constraints(make_run, name, changes) -> None:
    run = make_run()
    with pytest.raises(IntegrityError, match=name), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(**changes)


def test_a_retired_account_does_not_keep_them(data: Path, make_run) -> None:
    run = left_by(make_run(), age=DAYS + 1)
    User.objects.filter(pk=run.owner_id).update(is_active=False)
    assert sweep() == [f"outputs/{run.pk}"]
