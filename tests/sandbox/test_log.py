"""Reading a log that a hostile program writes."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridapps.sandbox.log import Line, LogFollower, Progress, clean, open_log

AT = "2026-01-02T03:04:05.678901Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def _write(path: Path, *lines: str | bytes, at: str = AT) -> None:
    with path.open("ab") as file:
        for line in lines:
            file.write(f"{at} ".encode() + (line if isinstance(line, bytes) else line.encode()) + b"\n")


def _only(path: Path) -> Line | Progress:
    (item,) = LogFollower(lambda: open_log(path)).read()
    return item


def test_an_absent_log_is_empty(path: Path) -> None:
    assert LogFollower(lambda: open_log(path)).read() == []


def test_each_record_comes_once_and_whole(path: Path) -> None:
    follower = LogFollower(lambda: open_log(path))
    _write(path, "one", "two")
    assert follower.read() == [Line(AT, "one"), Line(AT, "two")]
    assert follower.read() == []
    with path.open("ab") as file:
        file.write(f"{AT} thr".encode())
        file.flush()
        assert follower.read() == []
        file.write(b"ee\n")
    assert follower.read() == [Line(AT, "three")]


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ('{"progress": 0.4, "message": "ground classified"}', Progress(0.4, "ground classified")),
        ('  {"progress": 1}  ', Progress(1.0, "")),
        ('{"progress": 0, "step": 3}', Progress(0.0, "")),
        ('{"progress": 0.5, "message": "a\\u001b[31mb"}', Progress(0.5, "a\u241b[31mb")),
        ('{"progress": 0.5, "message": "\\ud800"}', Progress(0.5, "\ufffd")),
        ('{"progress": 0.5, "message": "' + "é" * 200 + '"}', Progress(0.5, "é" * 200)),
    ],
)
def test_progress_is_told_from_text(path: Path, text: str, progress: Progress) -> None:
    _write(path, text)
    assert _only(path) == progress


@pytest.mark.parametrize(
    "text",
    [
        '{"progress": 1.01}',
        '{"progress": -0.1}',
        '{"progress": true}',
        '{"progress": "0.4"}',
        '{"progress": NaN}',
        '{"progress": Infinity}',
        '{"progress": null}',
        '{"message": "x"}',
        '{"progress": 0.4, "message": 7}',
        '{"progress": 0.4, "message": "' + "x" * 201 + '"}',
        '{"progress": 0.4',
        '[{"progress": 0.4}]',
        '{"progress": 0.4} done',
        '{"progress": ' + "9" * 5000 + "}",
        '{"a":' * 3000 + "1" + "}" * 3000,
        "{" * 4000,
    ],
)
def test_malformed_progress_is_log(path: Path, text: str) -> None:
    _write(path, text)
    assert _only(path) == Line(AT, text)


def test_what_has_no_time_gets_the_last(path: Path) -> None:
    _write(path, "one")
    with path.open("ab") as file:
        file.write(b"forged\n2026-99-99T03:04:05.678901Z never\n\n")
    assert [item.at for item in LogFollower(lambda: open_log(path)).read() if isinstance(item, Line)] == [
        AT
    ] * 4


def test_a_log_that_is_cut_goes_on_from_its_end(path: Path) -> None:
    follower = LogFollower(lambda: open_log(path))
    _write(path, "one", "two")
    follower.read()
    path.write_bytes(b"")
    assert follower.read() == []
    _write(path, "three")
    assert follower.read() == [Line(AT, "three")]


def test_no_more_than_the_limit_is_read(path: Path) -> None:
    _write(path, *["x" * 71] * 1000)
    follower = LogFollower(lambda: open_log(path), limit=5000)
    read = follower.read()
    assert read[-1] == Line(AT, "[the rest of the log is left out]")
    assert len(read) == 51
    assert follower.read() == []


def test_empty_lines_count_against_the_limit(path: Path) -> None:
    path.write_bytes(b"\n" * 100_000)
    assert len(LogFollower(lambda: open_log(path), limit=28 * 100).read()) == 101


def test_a_line_without_end_does_not_fill_the_memory(path: Path) -> None:
    path.write_bytes(b"x" * 3_000_000)
    read = LogFollower(lambda: open_log(path)).read()
    assert read
    assert all(isinstance(item, Line) and len(item.text) <= 70_000 for item in read)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_only_a_regular_file_is_read(tmp_path: Path, path: Path, kind: str) -> None:
    if kind == "link":
        _write(tmp_path / "secret", "x")
        path.symlink_to(tmp_path / "secret")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert LogFollower(lambda: open_log(path)).read() == []


@given(st.binary(max_size=400))
def test_any_bytes_become_harmless_text(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(content + b"\n")
    for item in LogFollower(lambda: open_log(path)).read():
        text = item.text if isinstance(item, Line) else item.message
        text.encode()
        json.dumps(text)
        assert not any(c < " " and c != "\t" for c in text)
        assert not set(text) & set("\x7f\x85\x9b\u2028\u2029\u202e\u2066")


def test_ordinary_text_of_any_script_stays_as_it_is() -> None:
    text = "Höhe 3 m² → naïve 你好 मानक 👍 \t."
    assert clean(text) == text
    assert clean("a\x00b\x1b[0m\x7f") == "a\u2400b\u241b[0m\u2421"
