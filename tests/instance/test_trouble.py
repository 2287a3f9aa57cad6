"""Ports taken, engine gone, disk full: said plainly, nothing lost, and it works again when they are back."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.engine import Engine
from tests.fixtures.instance import Instance, MakeInstance, new_instance
from tests.fixtures.leftovers import mounts_below
from tests.fixtures.own_engine import OwnEngine
from tests.instance.conftest import SetStage

pytestmark = pytest.mark.system


def _refusal(instance: Instance) -> str:
    """What `gridapps-server up` prints when it refuses to start."""
    printed = instance.run_server_command("up", check=False)
    assert "Traceback" not in printed, printed
    assert instance.processes() == []
    return printed


@pytest.mark.parametrize("setting", ["port", "registry_port", "trusted_port"])
def test_a_taken_port_is_named(make_instance: MakeInstance, setting):
    instance = make_instance()
    port = int(instance.settings[f"GRIDAPPS_{setting.upper()}"])
    with socket.create_server(("127.0.0.1", port)):
        printed = _refusal(instance)
    assert str(port) in printed
    assert f"GRIDAPPS_{setting.upper()}" in printed
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
    """A file system of 3 GB, just big enough for an instance."""
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


def _fill(filler: Path) -> None:
    """Take every free block, in halves of what is left."""
    with filler.open("wb") as file:
        size, step = 0, 2**31
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), size, step)
                size += step
            except OSError:
                step //= 2


def test_a_full_disk_loses_nothing(small_disk: Path, set_stage: SetStage, containers_of):
    instance = new_instance(parent=small_disk)
    try:
        instance.start()
        stage = set_stage(instance)
        done = stage.submit("summary")
        stage.developer.wait(done, "SUCCESS")
        filler = small_disk / "filler"
        _fill(filler)
        with stage.developer.client() as client:
            refused = client.post(
                f"/api/v3/apps/{stage.app}/runs",
                json={"export": stage.export, "arguments": {"do": "summary"}},
            )
        assert refused.status_code in (202, 503), refused.text
        if refused.status_code == 503:
            assert refused.json()["code"] == "unavailable"
        assert "disk" in instance.run_server_command("doctor", check=False).lower()
        filler.unlink()
        if refused.status_code == 202:
            stage.developer.wait(refused.json()["runs"][0]["run_id"], "SUCCESS", seconds=120)
        stage.developer.wait(stage.submit("summary"), "SUCCESS", seconds=120)
        assert stage.developer.output(done, "0/stdout.txt") == b"on standard output\n"
    finally:
        instance.remove()
    assert containers_of(instance) == []
