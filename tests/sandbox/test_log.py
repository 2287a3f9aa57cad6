"""Reading a log that a hostile program writes."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridapps.sandbox.log import Line, Progress, clean, open_log
from gridapps.sandbox.log_following import LogFollower

LIMIT = 16 * 1024**2
AT = "2026-01-02T03:04:05.678901Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def _write(path: Path, *lines: str | bytes, at: str = AT) -> None:
    with path.open("ab") as file:
        for line in lines:
            file.write(f"{at} ".encode() + (line if isinstance(line, bytes) else line.encode()) + b"\n")


def _follow(path: Path, *, limit: int = LIMIT) -> LogFollower:
    return LogFollower(lambda: open_log(path), limit=limit)


def _only(path: Path) -> Line | Progress:
    (item,) = _follow(path).read()
    return item


def test_an_absent_log_is_empty(path: Path) -> None:
    assert _follow(path).read() == []


def test_each_record_comes_once_and_whole(path: Path) -> None:
    follower = _follow(path)
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
        ('{"progress": 0.5, "message": "' + "é" * 201 + '"}', Progress(0.5, "é" * 200)),
        ('{"progress": 0.5, "message": null}', Progress(0.5, "")),
        ('\ufeff{"progress": 0.5}', Progress(0.5, "")),
        (b'{"progress": 0.7, "message": "caf\xe9"}', Progress(0.7, "café")),
        ('{"progress": 1.0000000001}', Progress(1.0, "")),
        ('{"progress": -1e-10}', Progress(0.0, "")),
    ],
)
def test_progress_is_distinguished_from_text(path: Path, text: str | bytes, progress: Progress) -> None:
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
        '{"event": 1, "data": {"progress": 0.5}}',
        "{" * 17 + '{"progress": 0.5}',
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


@pytest.mark.parametrize(
    ("text", "before"),
    [
        (' 10%|####      | 1/10 [00:01<00:01]{"progress": 0.1}', "10%|####      | 1/10 [00:01<00:01]"),
        ('INFO {"progress": 0.1}', "INFO"),
        ('{"a": 1} {"message": "m", "progress": 0.1}', '{"a": 1}'),
    ],
)
def test_text_in_front_of_a_record_is_log(path: Path, text: str, before: str) -> None:
    """A bar leaves its line without line feed, and the record of the same program follows it."""
    _write(path, text)
    line, progress = _follow(path).read()
    assert line == Line(AT, before)
    assert isinstance(progress, Progress)
    assert progress.fraction == 0.1


def test_what_has_no_time_gets_the_last(path: Path) -> None:
    _write(path, "one")
    with path.open("ab") as file:
        file.write(b"forged\n2026-99-99T03:04:05.678901Z never\n\n")
    assert [item.at for item in _follow(path).read() if isinstance(item, Line)] == [AT] * 4


def test_a_log_that_the_program_cuts_goes_on_where_it_was(path: Path) -> None:
    """Init writes each line at its place, so a hole is left before it."""
    follower = _follow(path)
    _write(path, "one", "two")
    end = path.stat().st_size
    follower.read()
    path.write_bytes(b"")
    assert follower.read() == []
    with path.open("r+b") as file:
        file.seek(end)
        file.write(f"{AT} three\n".encode())
    assert follower.read() == [Line(AT, "three")]
    assert _only(path) == Line(AT, "three")


def _segment(number: int, start: int, *lines: str, size: int | None = None) -> bytes:
    text = "".join(f"{AT} {line}\n" for line in lines).encode()
    return f"{number:020} {start:020} {len(text) if size is None else size:020} \n".encode() + text


def _put(path: Path, segment: bytes, *, limit: int) -> None:
    """Write a segment where init does, into a file of this size."""
    index = int(segment[:20]) % 2
    with path.open("r+b") as file:
        file.seek(limit - 2 * (limit // 8) + index * (limit // 8))
        file.write(segment)


def test_newest_segments_are_read_after_a_full_head(path: Path) -> None:
    limit = 8000
    follower = _follow(path, limit=limit)
    _write(path, *["x" * 71] * 50)
    head = path.stat().st_size
    assert len(follower.read()) == 50
    _put(path, _segment(1, head, "a", '{"progress": 0.5}'), limit=limit)
    assert follower.read() == [Line(AT, "a"), Progress(0.5, "")]
    assert follower.read() == []
    _put(path, _segment(1, head, "a", '{"progress": 0.5}', "b"), limit=limit)
    _put(path, _segment(2, head + 106, "c"), limit=limit)
    assert follower.read() == [Line(AT, "b"), Line(AT, "c")]
    # The program was faster than the reader.
    _put(path, _segment(5, 9000, "e"), limit=limit)
    _put(path, _segment(6, 9030, "f"), limit=limit)
    missing = 9000 - (head + 106 + 30)
    note = Line(AT, f"[{missing} bytes of the log are left out here]")
    assert follower.read() == [note, Line(AT, "e"), Line(AT, "f")]
    whole = _follow(path, limit=limit).read()
    assert whole[:50] == [Line(AT, "x" * 71)] * 50
    assert whole[50:] == [
        Line(AT, f"[{9000 - head} bytes of the log are left out here]"),
        Line(AT, "e"),
        Line(AT, "f"),
    ]


@pytest.mark.parametrize(
    "segment",
    [
        _segment(0, 0, "x"),
        _segment(3, 0, "x", size=10**18),
        b"0" * 64,
        b"\n" * 64,
        _segment(3, 0, "x").replace(b" ", b"-", 1),
    ],
)
def test_a_forged_segment_is_not_read(path: Path, segment: bytes) -> None:
    _write(path, "one")
    with path.open("r+b") as file:
        file.seek(7000)
        file.write(segment)
    assert _follow(path, limit=8000).read() == [Line(AT, "one")]


def test_a_forged_segment_cannot_make_the_reader_read_again(path: Path) -> None:
    follower = _follow(path, limit=8000)
    _write(path, "one")
    _put(path, _segment(2**60, 2**60, "x"), limit=8000)
    assert len(follower.read()) == 3
    for _ in range(3):
        assert follower.read() == []
    _put(path, _segment(2**60, 2**60, size=0), limit=8000)
    assert follower.read() == []


def test_a_line_without_end_does_not_fill_the_memory(path: Path) -> None:
    path.write_bytes(b"x" * 3_000_000)
    read = _follow(path).read()
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
    assert _follow(path).read() == []


@given(st.binary(max_size=400))
def test_any_bytes_become_harmless_text(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(content + b"\n")
    for item in _follow(path).read():
        text = item.text if isinstance(item, Line) else item.message
        text.encode()
        json.dumps(text)
        assert not any(c < " " and c != "\t" for c in text)
        assert not set(text) & set("\x7f\x85\x9b\u2028\u2029\u202e\u2066")


def test_ordinary_text_of_any_script_stays_as_it_is() -> None:
    text = "Höhe 3 m² → naïve 你好 मानक 👍 \t."
    assert clean(text) == text
    assert clean("a\x00b\x1b[0m\x7f") == "a\u2400b\u241b[0m\u2421"
