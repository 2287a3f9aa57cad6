"""The worker's account can read what a hostile program closed; nothing else changes its owner."""

import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridapps.launcher.handover import MAX_DEPTH, hand_over
from gridapps.worker.collection import MAX_DEPTH as COLLECTED_DEPTH
from gridapps.worker.collection import Collected, collect
from tests.launcher.conftest import OWNER, as_account, open_to_all

PROGRAM = 65532


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("needs root: files change their owner")
    open_to_all(tmp_path)
    grid = tmp_path / "grid"
    grid.mkdir()
    grid.chmod(0o1777)
    return grid


@pytest.fixture
def opened(grid: Path) -> Iterator[int]:
    descriptor = os.open(grid, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def _make(path: Path, content: bytes | None, mode: int) -> None:
    """A file of the program, or without content a directory."""
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    os.chown(path, PROGRAM, PROGRAM)
    path.chmod(mode)


def _collect(grid: Path, target: Path) -> Collected:
    return collect(os.open(grid, os.O_RDONLY | os.O_DIRECTORY), target, max_files=100, max_bytes=10**6)


def test_closed_files_and_directories_are_collected_by_the_account(
    grid: Path, opened: int, tmp_path: Path
) -> None:
    _make(grid / "closed.txt", b"closed", 0o000)
    _make(grid / "d", None, 0o700)
    _make(grid / "d" / "e", None, 0o700)
    _make(grid / "d" / "e" / "file", b"deep", 0o200)
    for directory in (grid / "d" / "e", grid / "d"):
        directory.chmod(0o000)
    target = tmp_path / "outputs"
    target.mkdir()
    os.chown(target, OWNER, OWNER)
    before = as_account(OWNER, lambda: _collect(grid, target / "before"))
    assert before.outputs == []
    for _ in range(2):
        hand_over(opened, owner=OWNER)
    after = as_account(OWNER, lambda: _collect(grid, target / "after"))
    assert [file.path for file in after.outputs] == ["closed.txt", "d/e/file"]
    assert after.left_out == []


def test_the_directory_itself_may_be_closed(grid: Path, opened: int, tmp_path: Path) -> None:
    """/grid belongs to the program."""
    _make(grid / "file", b"inside", 0o600)
    target = tmp_path / "outputs"
    target.mkdir()
    os.chown(target, OWNER, OWNER)
    os.chown(grid, PROGRAM, PROGRAM)
    grid.chmod(0)
    hand_over(opened, owner=OWNER)
    after = as_account(OWNER, lambda: _collect(grid, target / "after"))
    assert [file.path for file in after.outputs] == ["file"]


def test_set_id_bits_go(grid: Path, opened: int) -> None:
    _make(grid / "x", b"#!", 0o6755)
    _make(grid / "d", None, 0o3777)
    hand_over(opened, owner=OWNER)
    assert stat.S_IMODE((grid / "x").stat().st_mode) == 0o755
    assert stat.S_IMODE((grid / "d").stat().st_mode) == 0o777
    assert (grid / "x").stat().st_uid == (grid / "d").stat().st_uid == OWNER


def test_links_pipes_devices_and_what_is_roots_stay_as_they_are(
    grid: Path, opened: int, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"root's")
    victim.chmod(0o600)
    (tmp_path / "directory").mkdir(mode=0o700)
    (grid / "to-file").symlink_to(victim)
    (grid / "to-directory").symlink_to(tmp_path / "directory")
    (grid / "up").symlink_to("..")
    (grid / "hard").hardlink_to(victim)
    os.mkfifo(grid / "pipe", 0o600)
    os.mknod(grid / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    for name in ("to-file", "to-directory", "up", "pipe", "null"):
        os.chown(grid / name, PROGRAM, PROGRAM, follow_symlinks=False)
    hand_over(opened, owner=OWNER)
    for path in (victim, tmp_path / "directory", grid, tmp_path):
        assert path.stat().st_uid == 0, path
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    for name in ("to-file", "to-directory", "up", "pipe", "null"):
        assert (grid / name).lstat().st_uid == PROGRAM, name


def test_another_file_system_is_not_entered(grid: Path, opened: int) -> None:
    (grid / "mounted").mkdir()
    os.chown(grid / "mounted", PROGRAM, PROGRAM)
    assert os.system(f"mount -t tmpfs none {grid}/mounted") == 0
    try:
        _make(grid / "mounted" / "x", b"", 0o600)
        os.chown(grid / "mounted", PROGRAM, PROGRAM)
        hand_over(opened, owner=OWNER)
        assert (grid / "mounted" / "x").stat().st_uid == PROGRAM
    finally:
        assert os.system(f"umount {grid}/mounted") == 0


def test_a_tree_without_end_needs_few_descriptors(grid: Path, opened: int) -> None:
    assert MAX_DEPTH > COLLECTED_DEPTH
    here = grid
    for depth in range(200):
        here /= "d"
        _make(here, None, 0o755)
        _make(here / "x", b"", 0o600)
        if depth + 1 == COLLECTED_DEPTH:
            last = here / "x"
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    hand_over(opened, owner=OWNER)
    assert last.stat().st_uid == OWNER
    assert (here / "x").stat().st_uid == PROGRAM
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_many_entries_take_seconds(grid: Path, opened: int) -> None:
    for number in range(20_000):
        (grid / f"{number}").touch()
        os.chown(grid / f"{number}", PROGRAM, PROGRAM)
    began = time.process_time()
    hand_over(opened, owner=OWNER)
    assert time.process_time() - began < 20
    assert (grid / "19999").stat().st_uid == OWNER


def test_what_is_swapped_for_a_link_meanwhile_harms_nobody(grid: Path, opened: int, tmp_path: Path) -> None:
    """Normally no program runs when outputs are handed over; one that did would gain nothing."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    victim.chmod(0o600)
    (tmp_path / "out").mkdir(mode=0o700)
    _make(tmp_path / "out" / "file", b"", 0o600)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for name, target in (("file", victim), ("directory", tmp_path / "out")):
                (grid / "link").symlink_to(target)
                (grid / "link").rename(grid / f"{name}-link")
                (grid / name).rename(grid / f"{name}-was")
                (grid / f"{name}-link").rename(grid / name)
                (grid / name).unlink()
                (grid / f"{name}-was").rename(grid / name)

    _make(grid / "file", b"", 0o600)
    _make(grid / "directory", None, 0o700)
    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(500):
            hand_over(opened, owner=OWNER)
            for name in ("file", "directory"):
                try:
                    os.chown(grid / name, PROGRAM, -1, follow_symlinks=False)
                except FileNotFoundError:
                    continue
    finally:
        done.set()
        swapping.join()
    assert victim.stat().st_uid == 0
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert (tmp_path / "out" / "file").stat().st_uid == PROGRAM
