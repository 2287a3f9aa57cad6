"""Ports taken, engine gone, disk full: said plainly, nothing lost, and it works again when they are back."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gridapps.pushes.disk import NOTE
from tests.fixtures import commands
from tests.fixtures.engine import Engine
from tests.fixtures.instance import Instance, MakeInstance, new_instance
from tests.fixtures.leftovers import mounts_below
from tests.fixtures.own_engine import OwnEngine
from tests.instance.conftest import SetStage, Stage
from tests.registry.places import Place, door

pytestmark = pytest.mark.system
FLOOR = 500 * 1024**2  # bytes


def _refusal(instance: Instance) -> str:
    """What `gridapps-server up` prints when it refuses to start."""
    printed = instance.run_server_command("up", check=False)
    assert "Traceback" not in printed, printed
    assert instance.processes() == []
    return printed


def test_taken_ports_are_named(make_instance: MakeInstance):
    instance = make_instance()
    names = [f"GRIDAPPS_{each}" for each in ("PORT", "REGISTRY_PORT", "TRUSTED_PORT")]
    for name in names:
        with socket.create_server(("127.0.0.1", int(instance.settings[name]))):
            printed = _refusal(instance)
        assert instance.settings[name] in printed
        assert [each for each in names if f"{each} " in printed or f"{each}." in printed] == [name], printed
    instance.start()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "70000"), ("HOST", "a b"), ("DATABASE", "mysql://x"), ("QUOTA", "none"), ("SLOTZ", "2")],
)
def test_a_wrong_setting_is_named(make_instance: MakeInstance, name, value):
    instance = make_instance()
    instance.settings[f"GRIDAPPS_{name}"] = value
    assert f"GRIDAPPS_{name}" in _refusal(instance)


def test_a_data_directory_that_cannot_be_used_is_named(make_instance: MakeInstance):
    instance = make_instance()
    instance.data.write_text("a file")
    try:
        assert str(instance.data) in _refusal(instance)
    finally:
        instance.data.unlink()


def test_an_engine_that_does_not_answer_is_named(make_instance: MakeInstance):
    instance = make_instance(engine="unix:///nowhere/docker.sock")
    assert "/nowhere/docker.sock" in _refusal(instance)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_runs_wait_for_an_engine_that_is_gone(
    make_instance: MakeInstance, set_stage: SetStage, own_engine: OwnEngine, end
):
    instance = make_instance(engine=own_engine.address)
    instance.start()
    stage = set_stage(instance)
    running = stage.submit("sleep", seconds=5)
    stage.developer.wait_for_progress(running)
    getattr(own_engine, end)()
    queued = stage.submit("summary")
    time.sleep(3)
    assert {stage.developer.show(run)["state"] for run in (running, queued)} <= {"QUEUED", "RUNNING"}
    assert str(own_engine.directory) in instance.run_server_command("doctor", check=False)
    own_engine.start()
    stage.developer.wait(queued, "SUCCESS", seconds=120)
    shown = stage.developer.wait(running, "SUCCESS", seconds=120)
    assert len(shown["tasks"][0]["attempts"]) <= 3
    instance.wait_until(lambda: not mounts_below(str(instance.data)), what="cleaned up", seconds=30)


@pytest.fixture
def small_disk(engine: Engine) -> Iterator[Path]:
    """A file system of 3 GB; its image is sparse."""
    directory = Path(tempfile.mkdtemp(prefix="d-"))
    image, mount = directory / "image", directory / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(3 * 1024**3)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    directory.chmod(0o711)
    yield mount
    subprocess.run(["umount", mount], check=True)
    shutil.rmtree(directory)


def _fill(filler: Path, *, but: int = 0) -> None:
    """Take the free blocks, except `but` bytes, in halves of what is left."""
    with filler.open("ab") as file:
        size, step = os.fstat(file.fileno()).st_size, 2**31
        while step >= 4096:
            found = os.statvfs(filler)
            try:
                if found.f_bavail * found.f_frsize - step < but:
                    raise OSError
                os.posix_fallocate(file.fileno(), size, step)
                size += step
            except OSError:
                step //= 2


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _push_until_refused(place: Place, client: httpx.Client, blob: bytes) -> str:
    """Upload the same bytes again and again; the sentence of the refusal."""
    for _ in range(100):
        location = client.post(f"/v2/{place.app}/blobs/uploads/").headers["Location"]
        answer = client.patch(location, content=blob)
        if answer.status_code != 202:
            assert answer.status_code == 401, answer.text
            return str(answer.json()["details"])
    raise AssertionError("never refused")


def _end_by_full_disk(place: Place, client: httpx.Client, filler: Path) -> None:
    """An upload that goes on while other programs fill the disk is ended, and a new one refused."""
    location = client.post(f"/v2/{place.app}/blobs/uploads/").headers["Location"]
    key, noted, filled = httpx.URL(location).path.rpartition("/")[2], place.instance.data / NOTE, False

    def slow() -> Iterator[bytes]:
        nonlocal filled
        yield bytes(1024)
        place.instance.wait_until(lambda: key in noted.read_text(), what="receiving")
        _fill(filler, but=FLOOR // 4)
        filled = True
        while True:
            time.sleep(0.1)
            yield bytes(1024)

    with filler.open("ab") as file:
        file.truncate(filler.stat().st_size - 64 * 1024**2)
        os.fsync(file.fileno())  # ext4 frees blocks when it commits
    # Perhaps it is still sending when the connection ends.
    with contextlib.suppress(httpx.TransportError):
        answer = client.patch(location, content=slow())
        assert answer.status_code == 507, answer.text
        assert "disk is nearly full" in answer.json()["details"]
    assert filled
    opened = place.instance.data / "registry/docker/registry/v2/repositories" / place.app / "_uploads" / key
    place.instance.wait_until(lambda: not (opened / "data").exists(), what="released what had arrived")
    place.instance.wait_until(
        lambda: client.post(f"/v2/{place.app}/blobs/uploads/").status_code == 401, what="refused a push"
    )


def test_a_disk_that_a_push_fills_keeps_its_floor(small_disk: Path, set_stage: SetStage, containers_of):
    instance = new_instance(parent=small_disk, slots=1, min_free_disk=FLOOR)
    filler = small_disk / "filler"
    try:
        instance.start()
        stage = set_stage(instance)
        place = Place(instance, stage.developer, stage.app)
        done = stage.submit("summary")
        stage.developer.wait(done, "SUCCESS")
        running, queued = stage.submit("sleep", seconds=8), stage.submit("summary")
        stage.developer.wait_for_progress(running)
        _fill(filler, but=FLOOR + 64 * 1024**2)
        with door(place) as client:
            sentence = _push_until_refused(place, client, bytes(8 * 1024**2))
            assert "disk is nearly full" in sentence
            assert "500 MiB have to stay free" in sentence
            # Logs, the database and the running task have taken some in the meantime.
            assert _free(small_disk) > FLOOR - 16 * 1024**2
            _end_by_full_disk(place, client, filler)
        with stage.developer.client() as client:
            refused = client.post(
                f"/api/v3/apps/{stage.app}/runs",
                json={"export": stage.export, "arguments": {"do": "summary"}},
            )
        assert (refused.status_code, refused.json()["code"]) == (507, "insufficient-storage")
        imported = instance.run_server_command(
            "import", str(stage.file), "--owner", stage.developer.name, "--name", "more", check=False
        )
        assert "disk is nearly full" in imported
        stage.developer.wait(running, "SUCCESS")
        shown = stage.developer.show(queued)
        assert shown["state"] == "QUEUED"
        assert "Waits: the disk of node local is nearly full" in shown["message"]
        _stays_in_order_on_a_full_disk(instance, stage, filler)
        filler.unlink()
        stage.developer.wait(queued, "SUCCESS", seconds=120)
        stage.developer.wait(stage.submit("summary"), "SUCCESS", seconds=120)
        assert stage.developer.output(done, "0/stdout.txt") == b"on standard output\n"
        instance.wait_until((instance.data / "reserve").exists, what="reserved disk again")
        # Each node reports its disk every few seconds.
        instance.wait_until(
            lambda: "All is well." in instance.run_server_command("status", check=False), what="well"
        )
    finally:
        instance.remove()
    assert containers_of(instance) == []


def _stays_in_order_on_a_full_disk(instance: Instance, stage: Stage, filler: Path) -> None:
    """Other programs take every block: the database, heartbeats, deletions and `tidy` go on."""
    _fill(filler)
    instance.wait_until(lambda: not (instance.data / "reserve").exists(), what="released the reserve")
    text = instance.run_server_command("status", check=False)
    assert "FAULT: This machine has " in text
    found = json.loads(
        commands.run("gridapps-server", "status", "--json", environment=instance.environment).stdout
    )
    assert found["database"] == ""
    assert not [fault for fault in found["faults"] if "free disk" not in fault], found["faults"]
    before = stage.developer.ask("GET", "/me")
    assert before.status_code == 200
    uploads = list((instance.data / "registry").rglob("_uploads/*"))
    assert uploads
    for directory in uploads:
        for path in (directory, *directory.rglob("*")):
            os.utime(path, (time.time() - 3600,) * 2)
    free = _free(filler)
    printed = instance.run_server_command("tidy")
    assert f"upload {stage.app}/" in printed
    assert _free(filler) > free + 32 * 1024**2
    assert "Less than GRIDAPPS_MIN_FREE_DISK" in instance.run_server_command("doctor", check=False)
