"""What the reason of a failed program quotes."""

import os
from pathlib import Path

import pytest

from gridapps.sandbox.protocol import Limits
from gridapps.worker.last_lines import last_lines

LIMITS = Limits(cpus=1, memory=1, disk=1, open_files=77)
STAMP = "2026-01-01T00:00:00.000000Z"


def _said(directory: Path, *, log: bytes = b"", output: bytes = b"") -> str:
    lines = [f"{STAMP} ".encode() + line for line in log.split(b"\n")] if log else []
    (directory / "log").write_bytes(b"\n".join(lines))
    (directory / "stdout.txt").write_bytes(output)
    return last_lines(log=directory / "log", output=directory / "stdout.txt", limits=LIMITS)


def test_the_ends_of_log_and_standard_output_are_quoted(tmp_path: Path) -> None:
    said = _said(tmp_path, log=b"1\n2\n3\n\n ~~^~~\n4\n", output=b"ERROR 7: no such\n")
    assert said == "Its log ends: 2 / 3 / 4 Its standard output ends: ERROR 7: no such"


def test_a_program_without_output_is_not_quoted(tmp_path: Path) -> None:
    assert _said(tmp_path) == ""
    assert _said(tmp_path, log=b" \n\t\n", output=b"\n\n") == ""
    assert last_lines(log=tmp_path / "no", output=tmp_path / "no", limits=LIMITS) == ""


@pytest.mark.parametrize(
    "content",
    [b"\x1b[31mred\x00\xff", "\u202ereversed\u2028".encode(), b"x" * 10_000_000, b"\r" * 9000 + b"a\rb"],
)
def test_quotes_are_short_and_printable(tmp_path: Path, content: bytes) -> None:
    said = _said(tmp_path, log=content, output=content)
    assert said.isprintable()
    assert len(said) < 1500


def test_quotes_of_long_output_begin_with_a_whole_line(tmp_path: Path) -> None:
    said = _said(tmp_path, output=b"y" * 5000 + b"\nwhole\n")
    assert said == "Its standard output ends: whole"


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    assert last_lines(log=tmp_path / "link", output=tmp_path / "pipe", limits=LIMITS) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"tile 4093: Too many open files", "77 files can be open"),
        (b"OSError: [Errno 28] No space left on device", "/grid-scratch"),
    ],
)
def test_limit_in_the_last_lines_is_explained(tmp_path: Path, text: bytes, words: str) -> None:
    assert words in _said(tmp_path, output=text)
    assert words in _said(tmp_path, log=text)
