"""The check of headers: each false field has its message, and no library reads the file."""

import os
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridapps.exports import facts, headers
from gridapps.exports.errors import BadPointCloud

NAN = struct.pack("<d", float("nan"))


def look(path: Path) -> headers.Header:
    file = os.open(path, os.O_RDONLY)
    try:
        return headers.read(file, size=path.stat().st_size)
    finally:
        os.close(file)


def patch(path: Path, at: int, content: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
    return path


def test_a_sound_header_is_read(make_cloud):
    header = look(make_cloud(points=1234))
    assert (header.version, header.point_format, header.points, header.compressed) == ("1.4", 6, 1234, True)
    assert header.mins[0] >= 1000
    assert header.maxs[1] <= 2050


@pytest.mark.parametrize(
    ("version", "point_format"), [("1.2", 0), ("1.2", 3), ("1.3", 1), ("1.4", 7), ("1.4", 8)]
)
@pytest.mark.parametrize("ending", ["las", "laz"])
def test_every_common_version_and_format_passes(make_cloud, version, point_format, ending):
    path = make_cloud(f"cloud.{ending}", version=version, point_format=point_format)
    header = look(path)
    assert (header.version, header.point_format) == (version, point_format)
    assert facts.measure(path).points == 1000


@pytest.mark.parametrize(
    ("at", "content", "sentence"),
    [
        (0, b"GIF8", "signature LASF"),
        (24, b"\x02", "LAS 2.4"),
        (25, b"\x07", "LAS 1.7"),
        (94, b"\x10\x00", "header says it is 16 bytes"),
        (96, b"\xff\xff\xff\x7f", "points start at byte"),
        (100, b"\xff\xff\xff\x3f", "1073741823 variable-length records"),
        (104, b"\x3f", "point format 63"),
        (104, b"\x0b", "formats 0 to 10"),
        (105, b"\x05\x00", "a point takes 5 bytes"),
        (131, b"\0" * 8, "scale factor of x"),
        (139, NAN, "scale factor of y"),
        (171, NAN, "offset of z"),
        (235, struct.pack("<QI", 400, 1_000_000), "1000000 extended records"),
        (247, struct.pack("<Q", 0), "no points"),
        (247, struct.pack("<Q", 10**12), "promises 1000000000000 points"),
    ],
)
def test_a_lie_has_a_sentence(make_cloud, at, content, sentence):
    with pytest.raises(BadPointCloud, match=sentence):
        look(patch(make_cloud("cloud.las"), at, content))


def test_compressed_points_need_the_record_that_runs_into_them(make_cloud):
    path = make_cloud("cloud.laz")
    with pytest.raises(BadPointCloud, match="laszip 22204"):
        look(patch(path, 375 + 20, b"\xff\xff"))


def test_compressed_points_need_their_record(make_cloud):
    with pytest.raises(BadPointCloud, match="laszip 22204"):
        look(patch(make_cloud("cloud.laz"), 375 + 2, b"somebody else\0\0\0"))


def test_a_chunk_table_cannot_claim_more_than_the_file_holds(make_cloud):
    path = make_cloud("cloud.laz")
    raw = path.read_bytes()
    data = struct.unpack_from("<I", raw, 96)[0]
    table = struct.unpack_from("<q", raw, data)[0]
    with pytest.raises(BadPointCloud, match="4294967295 chunks"):
        look(patch(path, table + 4, b"\xff\xff\xff\xff"))


def test_a_chunk_table_must_fit_the_number_of_points(make_cloud):
    with pytest.raises(BadPointCloud, match="promises 50001 points, but there are 1 chunks of 50000"):
        look(patch(make_cloud("cloud.laz"), 247, struct.pack("<Q", 50_001)))


@pytest.mark.parametrize("ending", ["las", "laz"])
def test_a_cut_file_is_found_wherever_it_was_cut(make_cloud, ending):
    path = make_cloud(f"cloud.{ending}")
    raw = path.read_bytes()
    for length in range(0, len(raw), 97):
        path.write_bytes(raw[:length])
        with pytest.raises(BadPointCloud):
            look(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 480), st.integers(0, 255)), min_size=1, max_size=8))
def test_random_damage_gives_a_header_or_a_sentence(make_cloud, changes):
    """Damaged headers raise no other exception."""
    path = make_cloud("cloud.laz", points=10)
    for at, value in changes:
        patch(path, at, bytes([value]))
    with suppress(BadPointCloud):
        assert look(path).points > 0


@pytest.mark.parametrize("place", ["before the points", "behind the points"])
def test_millions_of_records_are_refused_at_once(make_cloud, place):
    """A sparse file takes no disk and can hold as many records as a header may claim."""
    path = make_cloud("cloud.las")
    content = path.read_bytes()
    if place == "before the points":
        patch(path, 96, struct.pack("<I", 0xF0000000))
        patch(path, 100, struct.pack("<I", 70_000_000))
    else:
        patch(path, 235, struct.pack("<QI", len(content), 0xFFFFFFFF))
    os.truncate(path, 300 * 1024**3)
    begun = time.process_time()
    with pytest.raises(BadPointCloud, match="at most 10000"):
        look(path)
    assert time.process_time() - begun < 2
