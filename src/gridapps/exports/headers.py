"""Checking the header of an untrusted LAS or LAZ file before any library reads it.

A false header makes point-cloud libraries use all memory, or read fewer points than there are without an
error. The fields are described in the LAS 1.4 specification, R15, section 2; the chunk table is that of
LASzip, as lazrs reads it.
"""

import math
import os
import struct
from dataclasses import dataclass

from gridapps.access.refusals import Refused

_LEAST_RECORD = {0: 20, 1: 28, 2: 26, 3: 34, 4: 57, 5: 63, 6: 30, 7: 36, 8: 38, 9: 59, 10: 67}
_HEADER_SIZE = {0: 227, 1: 227, 2: 227, 3: 235, 4: 375}
_LARGEST_HEADER = 375
_MAX_RECORDS = 10_000  # of each kind; usual files have a few, and each takes a read
_VLR_HEAD = 54
_EVLR_HEAD = 60
_LASZIP = (b"laszip encoded", 22204)
_VARIABLE_CHUNKS = 0xFFFFFFFF


class BadPointCloud(Refused):
    """The file is not a valid point cloud. The message is a sentence, or a line for each file."""

    code = "invalid-request"


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fields of a plausible header."""

    version: str
    point_format: int
    record_length: int
    compressed: bool
    points: int
    mins: tuple[float, float, float]
    maxs: tuple[float, float, float]


def read(file: int, *, size: int) -> Header:
    """The header of an open file of `size` bytes. Raises BadPointCloud.

    Does not move the file position, and reads only the heads of variable-length records.
    """
    raw = os.pread(file, _LARGEST_HEADER, 0)
    minor, header_size, data = _frame(raw, size)
    vlrs, format_byte, record_length, legacy_points = struct.unpack_from("<IBHI", raw, 100)
    points = struct.unpack_from("<Q", raw, 247)[0] if minor == 4 else legacy_points
    compressed = bool(format_byte & 0x80)
    point_format = format_byte & 0x3F
    _check_records(minor, point_format, record_length, points)
    mins, maxs = _check_space(raw)
    laszip = _walk_vlrs(file, start=header_size, count=vlrs, end=data)
    if minor == 4:
        _walk_evlrs(file, raw, size=size, data=data)
    if compressed:
        _check_laz(file, laszip, data=data, size=size, points=points, record_length=record_length)
    elif data + points * record_length > size:
        raise BadPointCloud(
            f"The file is cut off: its header promises {points} points of {record_length} bytes from byte "
            f"{data} on, which takes {data + points * record_length} bytes, but the file has {size} bytes. "
            "Copy it again from its source."
        )
    return Header(
        version=f"1.{minor}",
        point_format=point_format,
        record_length=record_length,
        compressed=compressed,
        points=points,
        mins=mins,
        maxs=maxs,
    )


def _frame(raw: bytes, size: int) -> tuple[int, int, int]:
    """The minor version, the size of the header, and the offset of the point data."""
    if size == 0:
        raise BadPointCloud("The file is empty.")
    if raw[:4] != b"LASF":
        raise BadPointCloud(
            "This is not a LAS or LAZ file: it does not start with the signature LASF. "
            "Only LAS, LAZ and COPC can be imported."
        )
    if len(raw) < 227:
        raise BadPointCloud(
            f"The file is cut off inside its header: it has {size} bytes, a header has 227 or more."
        )
    major, minor = raw[24], raw[25]
    if major != 1 or minor not in _HEADER_SIZE:
        raise BadPointCloud(f"The file says it is LAS {major}.{minor}; versions 1.0 to 1.4 can be read.")
    header_size, data = struct.unpack_from("<HI", raw, 94)
    least = _HEADER_SIZE[minor]
    if header_size < least:
        raise BadPointCloud(
            f"The header says it is {header_size} bytes long; in LAS 1.{minor} it takes {least}."
        )
    if len(raw) < least or header_size > size:
        raise BadPointCloud(
            f"The file is cut off inside its header: {size} bytes of {max(least, header_size)}."
        )
    if not header_size <= data <= size:
        raise BadPointCloud(
            f"The header says that the points start at byte {data}, which is impossible in this file of "
            f"{size} bytes with a header of {header_size} bytes."
        )
    return minor, header_size, data


def _check_records(minor: int, point_format: int, record_length: int, points: int) -> None:
    highest = {0: 1, 1: 1, 2: 3, 3: 5, 4: 10}[minor]
    if point_format > highest:
        raise BadPointCloud(
            f"The header names point format {point_format}, which LAS 1.{minor} does not have."
        )
    least = _LEAST_RECORD[point_format]
    if record_length < least:
        raise BadPointCloud(
            f"The header says that a point takes {record_length} bytes; point format {point_format} takes "
            f"{least} or more."
        )
    if points == 0:
        raise BadPointCloud("The file has no points.")


def _check_space(raw: bytes) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Check scales, offsets and bounds; return the bounds as (mins, maxs)."""
    numbers = struct.unpack_from("<12d", raw, 131)
    scales, offsets = numbers[0:3], numbers[3:6]
    for axis, scale, offset in zip("xyz", scales, offsets, strict=True):
        if not math.isfinite(scale) or scale == 0:
            raise BadPointCloud(
                f"The scale factor of {axis} in the header is {scale:g}: coordinates would have no meaning."
            )
        if not math.isfinite(offset):
            raise BadPointCloud(
                f"The offset of {axis} in the header is {offset:g}: coordinates would have no meaning."
            )
    maxs, mins = (numbers[6], numbers[8], numbers[10]), (numbers[7], numbers[9], numbers[11])
    for axis, low, high in zip("xyz", mins, maxs, strict=True):
        if not (math.isfinite(low) and math.isfinite(high)) or low > high:
            raise BadPointCloud(f"The bounds of {axis} in the header are not a range: {low:g} to {high:g}.")
    return mins, maxs


def _walk_vlrs(file: int, *, start: int, count: int, end: int) -> bytes | None:
    """Check the variable-length records; return the content of that of LASzip."""
    if count * _VLR_HEAD > end - start:
        raise BadPointCloud(
            f"The header claims {count} variable-length records, but there are only {end - start} bytes "
            "between the header and the points. The file is damaged or malicious."
        )
    _check_count(count)
    laszip = None
    for number in range(1, count + 1):
        head = os.pread(file, _VLR_HEAD, start)
        if len(head) < _VLR_HEAD or start + _VLR_HEAD > end:
            raise BadPointCloud(
                f"Variable-length record {number} of {count} runs into the points: the header is damaged."
            )
        user, record, length = struct.unpack_from("<16sHH", head, 2)
        start += _VLR_HEAD
        if start + length > end:
            raise BadPointCloud(
                f"Variable-length record {number} of {count} runs into the points: the header is damaged."
            )
        if (user.rstrip(b"\0"), record) == _LASZIP:
            laszip = os.pread(file, length, start)
        start += length
    return laszip


def _check_count(records: int) -> None:
    if records > _MAX_RECORDS:
        raise BadPointCloud(
            f"The header claims {records} variable-length records; at most {_MAX_RECORDS} are read. "
            "The file is damaged or malicious."
        )


def _walk_evlrs(file: int, raw: bytes, *, size: int, data: int) -> None:
    """Check the extended records that follow the points in LAS 1.4."""
    start, count = struct.unpack_from("<QI", raw, 235)
    if count == 0:
        return
    if start < data or start + count * _EVLR_HEAD > size:
        raise BadPointCloud(
            f"The header claims {count} extended records from byte {start} on; in a file of {size} bytes "
            "that is impossible. The file is cut off or damaged."
        )
    _check_count(count)
    for number in range(1, count + 1):
        head = os.pread(file, _EVLR_HEAD, start)
        length = struct.unpack_from("<Q", head, 20)[0] if len(head) == _EVLR_HEAD else size
        start += _EVLR_HEAD + length
        if start > size:
            raise BadPointCloud(
                f"Extended record {number} of {count} ends beyond the end of the file: "
                "it is cut off or damaged."
            )


def _check_laz(
    file: int, laszip: bytes | None, *, data: int, size: int, points: int, record_length: int
) -> None:
    """Check that the chunk table is inside the file and can hold as many points as the header claims."""
    if laszip is None or len(laszip) < 34:
        raise BadPointCloud(
            "The points are marked as compressed, but the record that describes it (laszip 22204) is missing."
        )
    compressor, chunk_size = struct.unpack_from("<H10xI", laszip, 0)
    if compressor not in {2, 3}:
        raise BadPointCloud(
            f"The points are compressed with LASzip compressor {compressor}, which is not supported."
        )
    table = _table_position(file, data=data, size=size)
    version, chunks = struct.unpack("<II", os.pread(file, 8, table))
    if version != 0:
        raise BadPointCloud(f"The LAZ chunk table at byte {table} is damaged.")
    # A chunk holds at least its first point uncompressed, so the file's size limits the number of chunks.
    if chunks * record_length > table - data:
        raise BadPointCloud(
            f"The LAZ chunk table claims {chunks} chunks, more than {table - data} bytes can hold: "
            "the file is damaged."
        )
    if chunk_size != _VARIABLE_CHUNKS and not (chunks - 1) * chunk_size < points <= chunks * chunk_size:
        raise BadPointCloud(
            f"The header promises {points} points, but there are {chunks} chunks of {chunk_size}: "
            "the file is cut off or damaged."
        )


def _table_position(file: int, *, data: int, size: int) -> int:
    """The offset of the chunk table. If it is -1, the last eight bytes of the file have it."""
    if data + 8 > size:
        raise BadPointCloud("The file is cut off before its first point.")
    (table,) = struct.unpack("<q", os.pread(file, 8, data))
    if table == -1:
        (table,) = struct.unpack("<q", os.pread(file, 8, size - 8))
    if not data + 8 <= table <= size - 8:
        raise BadPointCloud(
            f"The file is cut off or damaged: its chunk table should be at byte {table}, but the file has "
            f"{size} bytes. Copy it again from its source."
        )
    return int(table)
