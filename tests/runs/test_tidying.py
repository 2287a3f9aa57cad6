"""What no row refers to is removed; referenced files and recent imports stay."""

import os
import signal
import subprocess
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from gridapps.access.models import User
from gridapps.exports import operations, stored_files
from gridapps.exports.models import Export
from gridapps.housekeeping import lost_exports as tidying
from gridapps.housekeeping import lost_outputs as runs_tidying
from gridapps.runs import store
from gridapps.runs.models import Run, Task
from gridapps.runs.store import AttemptFiles
from gridapps.storage.choice import current
from tests.fixtures.instance import PATIENCE, SERVER, new_instance
from tests.fixtures.pointclouds import write_pointcloud
from tests.fixtures.s3 import BUCKET, CREDENTIALS, S3Server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["directory", "s3"])
def data(request, tmp_path: Path, settings, monkeypatch) -> Path:
    settings.DATA, settings.STORAGE = tmp_path / "data", ""
    for name in ("exports", "outputs"):
        (tmp_path / "data" / name).mkdir(parents=True)
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        settings.STORAGE = f"s3://{BUCKET}/p"
        settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"s3_endpoint": server.endpoint})
        monkeypatch.setattr(tidying, "GRACE_OF_OBJECTS", timedelta(seconds=2))
    return tmp_path


def age(data: Path) -> None:
    """Make everything older than its grace period."""
    if stored_files.root() is None:
        time.sleep(2.5)
    else:
        for path in (data / "data" / "exports").iterdir():
            os.utime(path, (0, 0))


def test_exports_that_are_gone_go_and_the_others_stay(data: Path) -> None:
    owner = User.objects.create(username="analyst")
    clouds = [write_pointcloud(data / f"{n}.laz", points=100 + n) for n in range(3)]
    kept = operations.import_export(owner=owner, name="kept", files=clouds[:2])
    gone = operations.import_export(owner=owner, name="gone", files=clouds[1:])
    Export.objects.filter(pk=gone.pk).delete()
    assert tidying.tidy() == [], "too young"
    age(data)
    assert len(tidying.tidy()) == 1, "files of both stay, the rest is removed"
    assert tidying.tidy() == []
    for file in kept.files.all():
        if stored_files.root() is not None:
            assert stored_files.verified(file).is_file()
        else:
            assert current().size(stored_files.key(file.sha256)) == file.size
    # What was removed can be imported again.
    again = operations.import_export(owner=owner, name="again", files=clouds)
    assert again.files.count() == 3


def attempt(run: uuid.UUID, index: int, number: int) -> AttemptFiles:
    place = AttemptFiles(run, index, number)
    place.make()
    place.log.write_text("x\n")
    place.publish([])
    return place


def test_attempts_without_a_row_go(data: Path, make_run) -> None:
    run: Run = make_run(points=(1, 1))
    Task.objects.filter(run=run, index=0).update(
        attempt=2, state="SUCCESS", ended_at=timezone.now(), progress=1
    )
    Task.objects.filter(run=run, index=1).update(attempt=10)
    kept = [attempt(run.pk, 0, 2), attempt(run.pk, 1, 10)]
    lost = [attempt(run.pk, 0, 1), attempt(run.pk, 1, 1), attempt(uuid.uuid4(), 0, 1)]
    assert set(runs_tidying.tidy()) == {place.key for place in lost}
    assert runs_tidying.tidy() == []
    if stored_files.root() is None:
        left = {entry.key for entry in current().entries("outputs/")}
        assert left == {f"{place.key}/log" for place in kept}
    else:
        assert [place.log.exists() for place in (*kept, *lost)] == [True, True, False, False, False]


def test_the_last_of_a_tasks_attempts_takes_along_what_the_others_left(data: Path, make_run) -> None:
    run: Run = make_run()
    task = run.tasks.get()
    places = [attempt(run.pk, 0, number) for number in (1, 2, 3)]
    Task.objects.filter(pk=task.pk).update(attempt=3)
    store.tidy(task=task.pk, attempt=3)
    assert runs_tidying.tidy() == [place.key for place in places[:2]], (
        "nothing is removed while the attempt may run"
    )
    places = [attempt(run.pk, 0, number) for number in (1, 2, 3)]
    # It ended because its lease expired: no worker finished it.
    Task.objects.filter(pk=task.pk).update(
        state="FAILURE", reason="platform", reason_text="gone", ended_at=timezone.now()
    )
    store.tidy(task=task.pk, attempt=3)
    assert runs_tidying.tidy() == []


@pytest.mark.system
def test_what_a_killed_import_left_goes_when_it_is_old(tmp_path: Path) -> None:
    instance = new_instance()
    try:
        instance.run_server_command("init")
        instance.run_server_command("user", "create", "analyst")
        cloud = write_pointcloud(tmp_path / "a.laz", points=1_000_000)
        exports = instance.data / "exports"
        early = exports / "killed-before-its-owner-was-set"
        early.mkdir(mode=0o700)
        os.utime(early, (0, 0))
        assert instance.run_server_command("tidy") == f"exports/{early.name}\n1 removed.\n"
        assert not early.exists()
        importing = subprocess.Popen(
            [str(SERVER), "import", str(cloud), "--owner",
             "analyst", "--name", "x"],
            env=instance.environment, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while not (found := list(exports.iterdir())):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        importing.send_signal(signal.SIGKILL)
        importing.wait()
        assert instance.run_server_command("tidy") == "0 removed.\n", "the import may still run"
        os.utime(found[0], (0, 0))
        assert instance.run_server_command("tidy") == f"exports/{found[0].name}\n1 removed.\n"
        assert list(exports.iterdir()) == []
    finally:
        instance.remove()
