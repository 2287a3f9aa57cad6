"""Files that PDAL or laspy read in spite of a fault are imported, with what was measured and a remark."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gridapps.exports import facts
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.facts import Facts
from gridapps.exports.reader_process import Reader
from tests.exports import odd_files as odd
from tests.exports.conftest import SHARED

NAN, INF = float("nan"), float("inf")
BOUNDS = "bounds in the header are wrong"


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as process:
        yield process


def measured(reader: Reader, path: Path, content: bytes | bytearray) -> Facts:
    path.write_bytes(content)
    return facts.measure(path, reader)


ODD: dict[str, tuple[Any, list[str]]] = {
    "sound": (odd.las, []),
    "sound LAZ": (lambda: odd.las("1.4", 6, compress=True), []),
    "bounds never set": (lambda: odd.bounds(*[-1.8e308, 1.8e308] * 3), [f"{BOUNDS}.*x from .*; y .*; z "]),
    "bounds of zero": (lambda: odd.bounds(*[0] * 6), [BOUNDS]),
    "bounds of a part": (lambda: odd.bounds(60, 40), [f"{BOUNDS}: x from 40 to 60 instead of"]),
    "bounds in feet": (lambda: odd.bounds(*[number * 3.28 for number in (100, 0) * 3]), [BOUNDS]),
    "bounds far too wide": (lambda: odd.bounds(1e6, -1e6), [BOUNDS]),
    "a stray point": (lambda: odd.bounds(None, None, None, None, 1, 0), ["may be stray or damaged"]),
    "bounds that are no numbers": (lambda: odd.bounds(NAN, NAN), [f"{BOUNDS}: x from nan to nan"]),
    "infinite bounds": (lambda: odd.bounds(INF, -INF), [f"{BOUNDS}: x from -inf to inf"]),
    "bounds swapped": (lambda: odd.bounds(0, 100), [f"{BOUNDS}: x from 100 to 0"]),
    "bounds a bit wider": (lambda: odd.bounds(110, -10, 110, -10, 110, -10), []),
    "counts by return": (lambda: odd.returns(5, 15), ["by return are wrong: 5, 15 instead of 20"]),
    "counts by return missing": (lambda: odd.returns(0, 0), []),
    "GPS time NaN": (lambda: odd.gps(NAN), ["GPS time of 1 point is not"]),
    "GPS time infinite": (lambda: odd.gps(INF, -INF), ["GPS time of 2 points is not"]),
    "GPS time all NaN": (lambda: odd.gps(*[NAN] * 20), ["GPS time of 20 points"]),
    "record into the points": (lambda: odd.record_into_points(400), ["record 1 of 1 runs into the points"]),
    "records without space": (odd.records_without_space, ["record 1 of 3 runs into the points"]),
    "extended record cut off": (
        lambda: odd.extended(at=0, length=400, content=b"123"),
        ["Extended record 1 of 1 ends beyond the end"],
    ),
    "extended record missing": (
        lambda: odd.extended(at=9000, length=1, content=b"1"),
        ["Extended record 1 of 1 should be at byte.*PDAL 2.2 fails"],
    ),
    "format 3 in LAS 1.1": (lambda: odd.later_format(1, 3), ["format 3, which LAS 1.1 does not have"]),
    "format 1 in LAS 1.0": (lambda: odd.later_format(0, 1), []),
    "format 6 in LAS 1.2": (
        lambda: odd.later_format(2, 6),
        ["format 6, which LAS 1.2", "PDAL 2.2 cannot read point format 6 in LAS 1.2"],
    ),
    "legacy count": (lambda: odd.legacy_count(19), ["64 bits says 20, that of 32 bits says 19"]),
    **{
        f"waveforms, format {kind}": (
            lambda kind=kind, version=version: odd.las(version, kind),
            [f"PDAL 2.2 cannot read point format {kind}"],
        )
        for kind, version in ((4, "1.3"), (5, "1.3"), (9, "1.4"), (10, "1.4"))
    },
    "waveforms, format 10, LAZ": (lambda: odd.las("1.4", 10, compress=True), ["PDAL 2.2"]),
    "extra dimension": (lambda: odd.extra(b"Height"), []),
    "extra dimensions of undocumented bytes": (lambda: odd.extra(b"a", b"b", kinds=(0, 0)), []),
    "extra dimension in Latin-1": (
        lambda: odd.extra("Höhe".encode("latin-1")),
        ["not UTF-8: Höhe", "laspy .* cannot read the file"],
    ),
    "extra dimension twice": (
        lambda: odd.extra(b"Height", b"Height"),
        ["same name: Height", "laspy .* cannot read the file"],
    ),
    "extra dimension named X": (
        lambda: odd.extra(b"X"),
        ["called like standard ones: X", "laspy .* cannot read the file"],
    ),
    "extra dimension named Return Number": (lambda: odd.extra(b"Return Number"), ["called like standard"]),
    "extra dimension named with control characters": (
        lambda: odd.extra(b"\x1b[2J", b"\x1b[2J"),
        [r"same name: \\x1b\[2J", "laspy"],
    ),
    "extra dimension too long": (
        lambda: odd.extra(b"Height", kinds=(10,)),
        ["take 8 bytes by their description, but each point has 4", "laspy .* cannot read the file"],
    ),
    "extra dimension too short": (lambda: odd.extra(b"a", b"b", kinds=(1, 9)), ["take 5 bytes.* has 8"]),
    "extra dimension of unknown type": (
        lambda: odd.extra(b"a", kinds=(77,)),
        ["take 0 bytes", "laspy .* cannot read the file: UnknownExtraType 77"],
    ),
    "extra dimension of three": (lambda: odd.extra(b"a", kinds=(21,)), ["take 3 bytes"]),
    "record of extra dimensions with a tail": (
        lambda: odd.extra(b"a", tail=b"12345"),
        ["197 bytes, which is no multiple of 192"],
    ),
    "Latin-1 in a record": (odd.latin_user_id, ["laspy .* cannot read the file"]),
    "LAZ without chunks": (lambda: odd.laz(odd.without_chunks, "1.2", 1), ["compressed without chunks"]),
    "LAZ with items of version 4": (
        lambda: odd.laz(odd.newer_items, "1.4", 6),
        ["items of version 4"],
    ),
    "LAZ with a spare chunk": (lambda: odd.laz(odd.spare_chunk, "1.2", 1), []),
    "LAZ with empty chunks": (lambda: odd.laz(odd.empty_chunks, "1.4", 6), ["has an empty chunk"]),
    "LAZ with empty chunks of size 0": (lambda: odd.laz(odd.size_zero, "1.4", 6), ["has an empty chunk"]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_taken_with_what_was_measured(reader, tmp_path, name):
    make, remarks = ODD[name]
    found = measured(reader, tmp_path / "odd.las", make())
    assert found.points == 20
    assert found.bounds == pytest.approx([2.76, 3.96, 8.16, 95.05, 98.07, 87.65])
    assert found.returns == [20, *[0] * 14]
    matched = [text for text in found.remarks for pattern in remarks if _matches(pattern, text)]
    assert found.remarks == matched or (not remarks and not found.remarks)
    for pattern in remarks:
        assert any(_matches(pattern, text) for text in found.remarks), (pattern, found.remarks)
    assert all(text.endswith(".") and text.isprintable() for text in found.remarks)


def _matches(pattern: str, text: str) -> bool:

    return re.search(pattern, text) is not None


def test_gps_times_are_measured_without_those_that_are_no_numbers(reader, tmp_path):
    assert measured(reader, tmp_path / "a.las", odd.gps(NAN, 7)).gps_time == [2, 19]
    assert measured(reader, tmp_path / "b.las", odd.gps(*[NAN] * 20)).gps_time is None
    assert measured(reader, tmp_path / "c.las", odd.las("1.2", 0)).gps_time is None


def scaled(number: float) -> bytes:
    raw = odd.las()
    struct.pack_into("<d", raw, 131, number)
    return bytes(raw)


def items(length: int) -> bytes:
    def change(raw: bytearray, record: int, data: int) -> bytearray:
        struct.pack_into("<H", raw, record + 36, length)
        return raw

    return odd.laz(change, "1.4", 6)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: scaled(1e308), "not finite numbers"),
        (lambda: odd.legacy_count(20)[:247] + bytes(8) + odd.legacy_count(20)[255:], "64 bits says 0, .* 20"),
        (lambda: items(31), "describes 31"),
        (lambda: odd.laz(odd.missing_points, "1.4", 6), "promises 20 points, but the chunks have 19"),
    ],
)
def test_files_that_no_library_reads_are_refused(reader, tmp_path, make, sentence):
    with pytest.raises(BadPointCloud, match=sentence):
        measured(reader, tmp_path / "bad.las", make())


# The files of public reports: the number of points and a remark, or a sentence.
REPORTED: dict[str, int | str] = {
    "a01-vlr-user-id-latin1.las": 20,
    "a02-extra-bytes-latin1-name.laz": 1000,
    "a04-extra-bytes-name-twice.las": 20,
    "a08-extra-bytes-vlr-promises-too-much.las": 20,
    "a10-legacy-count-only-1.4-pf3.las": "64 bits says 0, that of 32 bits says 20",
    "a13-bounds-never-updated-sentinel.las": 20,
    "a15-bounds-of-the-subset-not-of-the-file.las": 20,
    "a17-one-stray-point-far-above-bounds.las": 20,
    "a18-bounds-nan-z.las": 20,
    "a24-geokeys-compound-vertical.las": 20,
    "a26-geokeys-user-defined-32767.las": 20,
    "a29-waveform-pf4.las": 20,
    "a36-zero-point-tile.las": "The file has no points",
    "a37-gps-time-nan.las": 20,
    "a46-pf3-in-LAS-1.1.las": 20,
    "a47-good-tile.laz": 2000,
    "chunk-size-0.laz": 300,
    "empty-chunk.laz": 300,
    "own-flat-tile-3cm-beyond.las": 20,
    "own-one-gps-time-nan.las": 20,
    "variable-ok.laz": 300,
}
REMARKS = {
    "a01-vlr-user-id-latin1.las": "laspy .* cannot read",
    "a02-extra-bytes-latin1-name.laz": "not UTF-8: Höhe_über",
    "a04-extra-bytes-name-twice.las": "same name: Deviation",
    "a08-extra-bytes-vlr-promises-too-much.las": "take 9 bytes .* has 2",
    "a13-bounds-never-updated-sentinel.las": BOUNDS,
    "a15-bounds-of-the-subset-not-of-the-file.las": BOUNDS,
    "a17-one-stray-point-far-above-bounds.las": "9999.* may be stray or damaged",
    "a18-bounds-nan-z.las": "z from nan to nan",
    "a29-waveform-pf4.las": "PDAL 2.2 cannot read point format 4",
    "a37-gps-time-nan.las": "GPS time of 20 points",
    "a46-pf3-in-LAS-1.1.las": "format 3, which LAS 1.1 does not have",
    "empty-chunk.laz": "has an empty chunk",
    "own-flat-tile-3cm-beyond.las": "z from 100 to 100.02 instead of 100 to 100.05",
    "own-one-gps-time-nan.las": "GPS time of 1 point is not",
}
SYSTEMS = {
    "a24-geokeys-compound-vertical.las": ("EPSG:25832+7837", "ETRS89 / UTM zone 32N + DHHN2016 height"),
    "a26-geokeys-user-defined-32767.las": ("EPSG:8395", "My Transverse Mercator"),
}


@pytest.fixture(scope="module")
def reported() -> Path:
    folder = SHARED.parent / "cases" / "files"
    if not folder.is_dir():
        pytest.skip(f"the files of public reports are absent ({folder.parent.parent.name}/cases/files)")
    return folder


@pytest.mark.parametrize("name", REPORTED)
def test_files_of_public_reports(reader, reported, name):
    expected = REPORTED[name]
    if isinstance(expected, str):
        with pytest.raises(BadPointCloud, match=expected):
            facts.measure(reported / name, reader)
        return
    found = facts.measure(reported / name, reader)
    assert found.points == expected
    if name in REMARKS:
        assert any(_matches(REMARKS[name], text) for text in found.remarks), found.remarks
    else:
        assert found.remarks == []
    assert (found.crs_code, found.crs_name) == SYSTEMS.get(name, ("", ""))
    assert (found.geojson is not None) == (name in SYSTEMS)


def test_every_file_of_public_reports_is_covered(reported):
    assert {path.name for path in reported.iterdir()} == set(REPORTED)
