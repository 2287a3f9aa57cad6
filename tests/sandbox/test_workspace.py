"""The workspace of an attempt: file systems and user ids."""

import os
import threading
from pathlib import Path

import pytest

from gridapps.sandbox import workspace
from gridapps.sandbox.loop import image_size
from gridapps.sandbox.protocol import SandboxError
from tests.fixtures.engine import Engine

pytestmark = pytest.mark.service


@pytest.mark.parametrize("usable", [1, 4096, 10**6 + 1, 2 * 1024**3 + 7])
@pytest.mark.parametrize("inodes", [16, 1001])
def test_the_image_of_a_workspace_has_whole_blocks(usable: int, inodes: int) -> None:
    """The kernel logs "Buffer I/O error on dev loop0" for a part of a block at the end."""
    assert image_size(usable=usable, inodes=inodes) % 4096 == 0
    assert image_size(usable=usable, inodes=inodes) > usable + inodes * 256


def test_a_file_system_that_is_busy_for_a_moment_is_unmounted_all_the_same(engine: Engine, tmp_path: Path):
    """As happens while another thread starts a process, which holds our descriptors for a moment."""
    space = workspace.probe(tmp_path, quota="loop")
    held = os.open(space.log, os.O_RDONLY)
    release = threading.Timer(0.3, os.close, [held])
    release.start()
    space.remove()
    assert not release.is_alive()
    assert not list(tmp_path.iterdir())
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def test_no_two_attempts_have_one_user(tmp_path: Path):
    """The kernel keeps some limits per user. A removed attempt frees its user id."""
    users = range(5000, 5008)
    made: list[workspace.Workspace] = []

    def make() -> None:
        made.append(workspace.probe(tmp_path, quota="watchdog", users=users))

    threads = [threading.Thread(target=make) for _ in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert sorted(space.user() for space in made) == list(users)
        with pytest.raises(SandboxError, match="GRIDAPPS_USER_IDS"):
            workspace.probe(tmp_path, quota="watchdog", users=users)
        gone = made.pop()
        free = gone.user()
        gone.remove()
        make()
        assert made[-1].user() == free
    finally:
        for space in made:
            space.remove()


def test_the_report_has_room_of_its_own(tmp_path: Path):
    space = workspace.probe(tmp_path, quota="loop")
    try:
        assert os.statvfs(space.report).f_fsid != os.statvfs(space.volume).f_fsid
        assert os.statvfs(space.report).f_favail == 0, "no other file can be made there"
        assert space.report.stat().st_mode & 0o777 == 0o755
    finally:
        space.remove()
