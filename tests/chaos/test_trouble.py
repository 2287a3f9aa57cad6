"""What is no death, and must not end a run either: a full disk, a clock that jumps, too many bells, a second
worker."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.rig import FILES, Rig, new_rig
from tests.chaos.states import await_begin
from tests.fixtures.leftovers import mounts_below

pytestmark = [pytest.mark.engine, pytest.mark.instance]

FAKE_TIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


@pytest.fixture
def small_outputs(embedded: Rig) -> Iterator[Path]:
    """The outputs lie on a file system of 64 MB for a while."""
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
    bell = embedded.instance.data / "run" / "local.bell"
    run = embedded.submit(seconds=0.5)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rope:
        for _ in range(10):
            rope.sendto(b"!", str(bell))
    assert embedded.assert_nothing_lost(run) == 1


def test_a_second_worker_of_the_node_is_refused_and_the_first_goes_on(embedded: Rig):
    run = embedded.submit(seconds=2)
    await_begin(embedded, run)
    assert "runs already" in embedded.instance.run_server_command("worker", check=False)
    assert embedded.assert_nothing_lost(run) == 1


@pytest.fixture
def jumping(crashed_image: str) -> Iterator[tuple[Rig, Path]]:
    """A rig whose application, worker and database see a clock that a file sets."""
    if FAKE_TIME is None:
        pytest.skip("libfaketime is not installed: scripts/machine test")
    ahead = Path(tempfile.mkdtemp(prefix="clock-")) / "ahead"
    ahead.write_text("+0")
    environment = {
        "LD_PRELOAD": str(FAKE_TIME), "FAKETIME_TIMESTAMP_FILE": str(ahead), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    rig = new_rig(image=crashed_image, cluster=None, broker=None, live_restore=False, environment=environment)
    yield rig, ahead
    rig.remove()
    assert not mounts_below(str(rig.instance.data))


@pytest.mark.parametrize("jump", ["+1h", "-1h"])
def test_a_clock_that_jumps_by_an_hour_ends_no_run(jumping: tuple[Rig, Path], jump: str):
    rig, ahead = jumping
    run = rig.submit(seconds=4)
    await_begin(rig, run)
    ahead.write_text(jump)
    time.sleep(0.5)
    assert rig.assert_nothing_lost(run) == 1
    assert len(rig.developer.show(run)["tasks"]) == FILES
