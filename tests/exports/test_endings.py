"""The true ending of a point cloud's name, from its header."""

from pathlib import Path

import pytest

from gridapps.exports.endings import ending_of

TILES = {".las": (0x03, b""), ".laz": (0x83, b""), ".copc.laz": (0x86, b"copc\0")}


@pytest.mark.parametrize("ending", TILES)
def test_ending_is_determined_by_the_header(tmp_path: Path, ending: str) -> None:
    point_format, user_id = TILES[ending]
    head = bytearray(600)
    head[:4], head[104], head[377 : 377 + len(user_id)] = b"LASF", point_format, user_id
    file = tmp_path / "whatever.laz"
    file.write_bytes(head)
    assert ending_of(file) == ending


@pytest.mark.parametrize("content", [b"", b"LASF", b"LASF" + bytes(100), b"x" * 1000])
def test_a_file_without_a_whole_header_has_an_ending_too(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert ending_of(tmp_path / "x") in TILES
