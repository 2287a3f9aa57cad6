"""Files that are wrong in one way, made from sound ones, and read by at least one common library."""

import io
import struct
from collections.abc import Callable

import laspy
import lazrs
import numpy as np

POINTS = 20


def las(version: str = "1.2", point_format: int = 1, *, compress: bool = False) -> bytearray:
    """A sound file; every point is a first return, and GPS times are 0, 1, 2, ..."""
    header = laspy.LasHeader(version=version, point_format=point_format)
    header.scales = [0.01] * 3
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = np.random.default_rng(1).random((3, POINTS)) * 100
    cloud.return_number = cloud.number_of_returns = np.ones(POINTS, dtype=np.uint8)
    if "gps_time" in cloud.point_format.dimension_names:
        cloud.gps_time = np.arange(POINTS, dtype=float)
    return _written(cloud, compress=compress)


def _written(cloud: laspy.LasData, *, compress: bool = False) -> bytearray:
    out = io.BytesIO()
    cloud.write(out, do_compress=compress)
    return bytearray(out.getvalue())


def bounds(*numbers: float | None) -> bytes:
    """The file with these bounds: maxx, minx, maxy, miny, maxz, minz; None keeps the right one."""
    raw = las()
    for index, number in enumerate(numbers):
        if number is not None:
            struct.pack_into("<d", raw, 179 + 8 * index, number)
    return bytes(raw)


def returns(*counts: int) -> bytes:
    raw = las()
    struct.pack_into(f"<{len(counts)}I", raw, 111, *counts)
    return bytes(raw)


def gps(*times: float) -> bytes:
    """The first points have these GPS times."""
    raw = las()
    for index, time in enumerate(times):
        struct.pack_into("<d", raw, 227 + 28 * index + 20, time)
    return bytes(raw)


def record_into_points(length: int) -> bytes:
    """The only record says that it is longer than the space before the points."""
    raw = las()
    vlr = struct.pack("<H16sHH32s", 0, b"x", 1, length, b"")
    struct.pack_into("<II", raw, 96, 227 + len(vlr) + 10, 1)
    return bytes(raw[:227] + vlr + bytes(10) + raw[227:])


def records_without_space() -> bytes:
    raw = las()
    struct.pack_into("<I", raw, 100, 3)
    return bytes(raw)


def extended(*, at: int, length: int, content: bytes) -> bytes:
    """One extended record, `at` bytes behind the points."""
    raw = las("1.4", 6)
    struct.pack_into("<QI", raw, 235, len(raw) + at, 1)
    return bytes(raw) + struct.pack("<H16sHQ32s", 0, b"x", 1, length, b"") + content


def later_format(version: int, point_format: int) -> bytes:
    """A format in a version that does not have it."""
    if point_format < 6:
        raw = las("1.2", point_format)
        raw[25] = version
        return bytes(raw)
    whole = las("1.4", point_format)
    raw = whole[:227]
    raw[25] = version
    struct.pack_into("<HI", raw, 94, 227, 227)
    struct.pack_into("<I", raw, 107, 20)
    return bytes(raw + whole[375:])


def legacy_count(count: int) -> bytes:
    raw = las("1.4", 1)
    struct.pack_into("<I", raw, 107, count)
    return bytes(raw)


def extra(*names: bytes, kinds: tuple[int, ...] = (), tail: bytes = b"") -> bytes:
    """Extra dimensions of four bytes with these names. `kinds`: data types instead of 9 (float)."""
    raw = las("1.4", 6)
    described = b""
    for index, name in enumerate(names):
        kind = kinds[index] if kinds else 9
        described += struct.pack("<HBB32s156s", 0, kind, 4 if kind == 0 else 0, name, b"")
    described += tail
    vlr = struct.pack("<H16sHH32s", 0, b"LASF_Spec", 4, len(described), b"")
    points = b"".join(raw[at : at + 30] + bytes(4 * len(names)) for at in range(375, len(raw), 30))
    struct.pack_into("<II", raw, 96, 375 + len(vlr) + len(described), 1)
    struct.pack_into("<H", raw, 105, 30 + 4 * len(names))
    return bytes(raw[:375]) + vlr + described + points


def latin_user_id() -> bytes:
    raw = las()
    vlr = struct.pack("<H16sHH32s", 0, "Géoportail".encode("latin-1"), 7, 0, "Höhe".encode("latin-1"))
    struct.pack_into("<II", raw, 96, 227 + len(vlr), 1)
    return bytes(raw[:227] + vlr + raw[227:])


def laz(change: Callable[[bytearray, int, int], bytes | bytearray], version: str, point_format: int) -> bytes:
    """A changed LAZ file. `change` gets the file and the offsets of LASzip's record and of the points."""
    raw = las(version, point_format, compress=True)
    (header,) = struct.unpack_from("<H", raw, 94)
    (data,) = struct.unpack_from("<I", raw, 96)
    return bytes(change(raw, header + 54, data))


def without_chunks(raw: bytearray, record: int, data: int) -> bytearray:
    """The stream of LASzip 1: no chunk table."""
    (table,) = struct.unpack_from("<q", raw, data)
    struct.pack_into("<H10xI", raw, record, 1, 0)
    return raw[:data] + raw[data + 8 : table]


def newer_items(raw: bytearray, record: int, data: int) -> bytearray:
    """Items of version 4, which are the same for files of one scanner channel."""
    struct.pack_into("<H", raw, record + 38, 4)
    return raw


def spare_chunk(raw: bytearray, record: int, data: int) -> bytes:
    """A chunk table with an empty chunk behind all points, of fixed chunks."""
    return _with_chunks(raw, record, data, lambda chunks: [*chunks, (50_000, 0)])


def empty_chunks(raw: bytearray, record: int, data: int) -> bytes:
    """Variable chunks with empty ones at both ends."""
    struct.pack_into("<I", raw, record + 12, 0xFFFFFFFF)
    return _with_chunks(raw, record, data, lambda chunks: [(0, 0), (20, chunks[0][1]), (0, 0)])


def size_zero(raw: bytearray, record: int, data: int) -> bytes:
    """Variable chunks that are described by the size 0."""
    changed = bytearray(empty_chunks(raw, record, data))
    struct.pack_into("<I", changed, record + 12, 0)
    return bytes(changed)


def missing_points(raw: bytearray, record: int, data: int) -> bytes:
    """Variable chunks with fewer points than the header says."""
    struct.pack_into("<I", raw, record + 12, 0xFFFFFFFF)
    return _with_chunks(raw, record, data, lambda chunks: [(19, chunks[0][1])])


def _with_chunks(
    raw: bytearray, record: int, data: int, change: Callable[[list[tuple[int, int]]], list[tuple[int, int]]]
) -> bytes:
    (table,) = struct.unpack_from("<q", raw, data)
    (length,) = struct.unpack_from("<H", raw, record - 34)
    vlr = lazrs.LazVlr(bytes(raw[record : record + length]))
    chunks = [(20, table - data - 8)]
    out = io.BytesIO()
    lazrs.write_chunk_table(out, change(chunks), vlr)
    return bytes(raw[:table]) + out.getvalue()
