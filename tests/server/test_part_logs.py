"""The logs of the parts: rotations lose nothing, and lines and files are limited in size."""

import errno
import os
import re
import sys
import threading
import time
from pathlib import Path

import pytest

from gridapps.server import part_logs
from gridapps.server.part_logs import PartLog, PartLogs
from gridapps.server.plan import PlannedPart, Program
from gridapps.server.supervise import Supervisor


@pytest.fixture
def log(tmp_path: Path):
    made = PartLog(tmp_path / "one.log")
    yield made
    made.close()


def written(directory: Path, name: str = "one") -> str:
    """All files, oldest first."""
    files = sorted(directory.glob(f"{name}.log.*"), reverse=True)
    return "".join(file.read_text() for file in [*files, directory / f"{name}.log"])


def test_nothing_is_lost_at_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_logs, "LARGEST", 10_000)
    log = PartLog(tmp_path / "one.log")
    lines = [f"line {number}\n" for number in range(3000)]
    for begin in range(0, len(lines), 50):
        os.write(log.writer, "".join(lines[begin : begin + 50]).encode())
        log.pump()
    log.close()
    found = written(tmp_path)
    assert "".join(lines).endswith(found)
    assert len(found) > 25_000


def test_the_files_together_have_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_logs, "LARGEST", 100_000)
    log = PartLog(tmp_path / "one.log")
    for _ in range(200):
        os.write(log.writer, b"x" * 999 * 20 + b"\n")
        while log.pump():
            pass
    log.close()
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sorted(sizes) == ["one.log", *(f"one.log.{number}" for number in range(1, part_logs.FILES))]
    assert all(size <= 100_000 for size in sizes.values())


def test_a_long_line_is_cut_and_the_next_one_is_whole(log: PartLog) -> None:
    def write() -> None:
        for piece in (b"before\n", b"x" * 300_000, b"y" * 300_000 + b"\nafter\rsame\n"):
            left = memoryview(piece)
            while left:
                left = left[os.write(log.writer, left) :]

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive() or log.pump():
        log.pump()
    first, cut, last = log.path.read_bytes().decode().removesuffix("\n").split("\n")
    assert (first, last) == ("before", "after\rsame")
    assert cut == "x" * part_logs.LONGEST_LINE + "... [cut]"


def test_a_line_that_reaches_its_limit_with_a_piece_is_cut(log: PartLog) -> None:
    for piece in (b"x" * part_logs.LONGEST_LINE, b"y\nafter\n"):
        os.write(log.writer, piece)
        while log.pump():
            pass
    assert log.path.read_text() == "x" * part_logs.LONGEST_LINE + "... [cut]\nafter\n"


def test_a_full_disk_stops_neither_the_part_nor_the_supervisor(
    log: PartLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def full(descriptor: int, piece: bytes) -> int:
        if descriptor == log.writer:
            return real(descriptor, piece)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(100):
        os.write(log.writer, b"x" * 60_000 + b"\n")
        while log.pump():
            pass
    monkeypatch.setattr(os, "write", real)
    os.write(log.writer, b"there is room again\n")
    log.pump()
    assert log.path.read_text() == "there is room again\n"


def test_a_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "one.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="one"):
        PartLogs(tmp_path).of("one")


FLOOD = r"""
import os, pathlib, signal, sys
for number in range(60_000):
    os.write(2, b"line %d\n" % number)
pathlib.Path(sys.argv[1]).touch()
signal.pause()
"""


def test_a_running_part_writes_on_through_rotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_logs, "LARGEST", 200_000)
    for name in ("log", "run"):
        (tmp_path / name).mkdir()
    done = tmp_path / "done"
    part = PlannedPart(
        name="one",
        runs=Program(command=[sys.executable, "-c", FLOOD, str(done)], environment=dict(os.environ)),
        ready=None,
        account=None,
    )
    supervisor = Supervisor(parts=[part], data=tmp_path, say=print)
    supervisor.start()
    watcher = threading.Thread(target=supervisor.watch)
    watcher.start()
    end = time.monotonic() + 60
    while not done.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    supervisor.stop()
    watcher.join()
    numbers = [int(number) for number in re.findall(r"line (\d+)", written(tmp_path / "log"))]
    assert numbers == list(range(numbers[0], 60_000))
    assert (tmp_path / "log" / "one.log.1").exists()
