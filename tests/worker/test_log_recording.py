"""Recording a container's log."""

import time
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings

from gridapps.runs import logs
from gridapps.runs.store import AttemptFiles
from gridapps.sandbox.log import open_log
from gridapps.worker.log_recording import LogRecorder

STAMP = "2026-01-02T03:04:05.000000Z"


def test_a_full_log_of_short_lines_is_copied_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is proportional to the size, so a program cannot block its worker by a large log."""
    monkeypatch.setattr(settings, "DATA", tmp_path)
    log = tmp_path / "log"
    log.write_text(f"{STAMP} 12345678\n" * 280_000)
    files = AttemptFiles(uuid4(), 0, 1)
    files.log.parent.mkdir(parents=True)
    began = time.monotonic()
    LogRecorder(log=lambda: open_log(log), files=files, limit=16 * 1024**2).record()
    assert files.log.stat().st_size == log.stat().st_size
    assert time.monotonic() - began < 60


LIMIT = 64 * 1024


class Growing:
    """An attempt whose container's log and whose stored log a test reads."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "DATA", tmp_path)
        (tmp_path / "outputs").mkdir()
        self.log = tmp_path / "log"
        self.log.touch()
        self.files = AttemptFiles(uuid4(), 0, 1)
        self.files.make()
        self.offset = 0

    def recorder(self, *, predecessor: int = 0) -> LogRecorder:
        return LogRecorder(
            log=lambda: open_log(self.log), files=self.files, limit=LIMIT, predecessor=predecessor
        )

    def say(self, number: int, *lines: str) -> None:
        """Replace the older segment by these lines."""
        text = "".join(f"{STAMP} {line}\n" for line in lines).encode()
        header = f"{number:020} {number * 10**6:020} {len(text):020} \n".encode()
        with self.log.open("r+b") as file:
            file.seek(LIMIT - 2 * (LIMIT // 8) + number % 2 * (LIMIT // 8))
            file.write(header + text)

    def read(self) -> list[str]:
        """What is new for a reader that has read everything before."""
        text = b""
        while (part := logs.read(self.files, self.offset, 4096, ended=False)).text:
            text, self.offset = text + part.text, part.end
        return [line.partition(" ")[2] for line in text.decode().splitlines()]


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Growing:
    return Growing(tmp_path, monkeypatch)


def test_the_newest_lines_of_a_log_without_end_are_kept_and_read(growing: Growing) -> None:
    recorder = growing.recorder()
    for number in range(1, 200):
        growing.say(number, *[f"{number} {'x' * 90}"] * 50, f'{{"progress": {number / 200}}}')
        progress = recorder.record()
        assert progress is not None
        assert progress.fraction == number / 200
        assert growing.read()[-1].startswith(f"{number} "), "a reader sees every line"
    sizes = [path.stat().st_size for path in (growing.files.log, *growing.files.tail.iterdir())]
    assert sum(sizes) <= LIMIT
    assert len(sizes) == 5
    growing.offset = 0
    whole = growing.read()
    assert whole[1].startswith("1 "), "the beginning is kept"
    assert whole[-1].startswith("199 ")
    numbers = [int(line.split()[0]) for line in whole if not line.startswith("[")]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) < 30


def test_a_late_reader_gets_a_line_about_missing_bytes(growing: Growing) -> None:
    recorder = growing.recorder()
    for number in range(1, 100):
        growing.say(number, *[f"{number} {'x' * 90}"] * 50)
        recorder.record()
    growing.offset = growing.files.log.stat().st_size + 1000
    (start, _), *_ = growing.files.tail_pieces()
    note, newest, *_ = growing.read()
    assert note == f"[{start - growing.files.log.stat().st_size - 1000} bytes of the log are left out here]"
    assert newest.startswith("9")


def test_reading_continues_when_another_worker_adopts_the_attempt(growing: Growing) -> None:
    recorder = growing.recorder()
    for number in range(1, 100):
        growing.say(number, *[f"{number} {'x' * 90}"] * 50)
        recorder.record()
    growing.read()
    successor = growing.recorder(predecessor=growing.files.make())
    successor.record()
    growing.say(100, "after the change of workers")
    successor.record()
    assert growing.read()[-1] == "after the change of workers"
