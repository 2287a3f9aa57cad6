"""Disturbances other than crashes, which must not end a run either: a full disk, a clock that jumps, repeated
bells, a second worker."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.clock import Clock
from tests.chaos.rig import Rig
from tests.chaos.states import await_begin

pytestmark = pytest.mark.chaos


@pytest.fixture
def small_outputs(embedded: Rig) -> Iterator[Path]:
    """Outputs are on a file system of 64 MB during the test."""
    outputs = embedded.instance.data / "outputs"
    image = Path(tempfile.mkdtemp(prefix="small-")) / "image"
    with image.open("wb") as file:
        file.truncate(64 * 1024**2)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    owner = outputs.stat()
    subprocess.run(["mount", "-o", "loop", image, outputs], check=True)
    os.chown(outputs, owner.st_uid, owner.st_gid)
    outputs.chmod(owner.st_mode & 0o7777)
    yield outputs
    subprocess.run(["umount", outputs], check=True)


def test_a_disk_that_is_full_during_collection_is_waited_for(embedded: Rig, small_outputs: Path):
    run = embedded.submit(seconds=1)
    await_begin(embedded, run)
    filler = small_outputs / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(small_outputs)
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 4 * 1024**2)
    embedded.until(lambda: any("Waiting" in text for text in _messages(embedded, run)), "waiting")
    assert {state for state, _, _ in embedded.tasks(run)} <= {"RUNNING", "SUCCESS"}
    filler.unlink()
    assert embedded.assert_nothing_lost(run) == 1


def _messages(rig: Rig, run: str) -> list[str]:
    return [message for (message,) in rig.query("SELECT message FROM runs_task WHERE run_id = ?", run)]


def test_ten_bells_are_one(embedded: Rig):
    bell = embedded.instance.data / "run" / "bells" / "local.bell"
    run = embedded.submit(seconds=0.5)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rope:
        for _ in range(10):
            rope.sendto(b"!", str(bell))
    assert embedded.assert_nothing_lost(run) == 1


def test_a_second_worker_of_the_node_is_refused_and_the_first_goes_on(embedded: Rig):
    run = embedded.submit(seconds=2)
    await_begin(embedded, run)
    assert "is running already" in embedded.instance.run_server_command("worker", check=False)
    assert embedded.assert_nothing_lost(run) == 1


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_clock_that_jumps_by_an_hour_ends_no_run(embedded: Rig, clock: Clock, ahead: int):
    """The clock of application and worker, and so of SQLite, which runs in their processes."""
    run = embedded.submit(seconds=3)
    await_begin(embedded, run)
    clock.set(ahead)
    try:
        assert embedded.assert_nothing_lost(run) == 1
        assert embedded.assert_nothing_lost(embedded.submit(seconds=0)) == 1
    finally:
        clock.set(0)
