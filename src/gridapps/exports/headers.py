"""Checking the header of an untrusted LAS or LAZ file before any library reads it.

A false header makes point-cloud libraries use all memory, or read fewer points than there are without an
error. What libraries read in spite of a fault is a remark, not a refusal. The fields are described in the
LAS 1.4 specification, R15, section 2.
"""

import math
import os
import struct
from dataclasses import dataclass

from gridapps.exports import laszip_chunks, variable_records
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.laszip_chunks import Compression
from gridapps.exports.variable_records import Record

LEAST_RECORD = {0: 20, 1: 28, 2: 26, 3: 34, 4: 57, 5: 63, 6: 30, 7: 36, 8: 38, 9: 59, 10: 67}
_HEADER_SIZE = {0: 227, 1: 227, 2: 227, 3: 235, 4: 375}
_HIGHEST_FORMAT = {0: 1, 1: 1, 2: 3, 3: 5, 4: 10}
_LARGEST_HEADER = 375
_WKT = 16  # bit of the global encoding

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fields of a plausible header. `mins`, `maxs` and `returns` may be wrong."""

    version: str
    point_format: int
    record_length: int
    points: int
    data: int  # offset of the first point
    scales: Triple
    offsets: Triple
    mins: Triple
    maxs: Triple
    returns: tuple[int, ...]  # points by return number, 5 or 15
    wkt: bool  # the CRS is said to be WKT
    records: list[Record]
    compression: Compression | None
    remarks: list[str]

    @property
    def compressed(self) -> bool:
        """Whether it is LAZ."""
        return self.compression is not None


def read(file: int, *, size: int) -> Header:
    """The header of an open file of `size` bytes. Raises BadPointCloud.

    Does not move the file position, and reads only the heads of variable-length records.
    """
    raw = os.pread(file, _LARGEST_HEADER, 0)
    minor, header_size, data = _frame(raw, size)
    vlrs, format_byte, record_length, legacy_points = struct.unpack_from("<IBHI", raw, 100)
    points = struct.unpack_from("<Q", raw, 247)[0] if minor == 4 else legacy_points
    point_format = format_byte & 0x3F
    remarks = [_check_format(minor, point_format, record_length), _check_count(minor, points, legacy_points)]
    scales, offsets = _space(raw)
    numbers = struct.unpack_from("<6d", raw, 179)
    records, remark = variable_records.before_points(file, start=header_size, count=vlrs, end=data)
    remarks.append(remark)
    if minor == 4:
        start, count = struct.unpack_from("<QI", raw, 235)
        extended, remark = variable_records.behind_points(
            file, start=start, count=count, size=size, data=data
        )
        records += extended
        remarks.append(remark)
    compression = None
    if format_byte & 0x80:
        compression = laszip_chunks.read(
            file, records, data=data, size=size, points=points, record_length=record_length
        )
    else:
        _check_length(data=data, points=points, record_length=record_length, size=size)
    return Header(
        version=f"1.{minor}",
        point_format=point_format,
        record_length=record_length,
        points=points,
        data=data,
        scales=scales,
        offsets=offsets,
        mins=(numbers[1], numbers[3], numbers[5]),
        maxs=(numbers[0], numbers[2], numbers[4]),
        returns=struct.unpack_from("<15Q", raw, 255) if minor == 4 else struct.unpack_from("<5I", raw, 111),
        wkt=bool(struct.unpack_from("<H", raw, 6)[0] & _WKT),
        records=records,
        compression=compression,
        remarks=[remark for remark in remarks if remark],
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


def _check_format(minor: int, point_format: int, record_length: int) -> str:
    """A remark on the point format, or "". Libraries go by the format and the length, not by the version."""
    if point_format not in LEAST_RECORD:
        raise BadPointCloud(f"The header names point format {point_format}; formats 0 to 10 can be read.")
    least = LEAST_RECORD[point_format]
    if record_length < least:
        raise BadPointCloud(
            f"The header says that a point takes {record_length} bytes; point format {point_format} takes "
            f"{least} or more."
        )
    if point_format > _HIGHEST_FORMAT[minor]:
        return f"The header names point format {point_format}, which LAS 1.{minor} does not have."
    return ""


def _check_count(minor: int, points: int, legacy: int) -> str:
    if points == 0 and legacy and minor == 4:
        raise BadPointCloud(
            "The header of LAS 1.4 has two counts of points: the one of 64 bits says 0, that of 32 bits says "
            f"{legacy}. PDAL and laspy go by the first and read no points. Write the file again with the "
            "tool that made it."
        )
    if points == 0:
        raise BadPointCloud("The file has no points.")
    if minor == 4 and legacy not in {0, points}:
        return (
            f"The header of LAS 1.4 has two counts of points: the one of 64 bits says {points}, that of 32 "
            f"bits says {legacy}. The first is right; old programs go by the second."
        )
    return ""


def _check_length(*, data: int, points: int, record_length: int, size: int) -> None:
    """Refuse an uncompressed file that is too short for its points."""
    end = data + points * record_length
    if end > size:
        raise BadPointCloud(
            f"The file is cut off: its header promises {points} points of {record_length} bytes from byte "
            f"{data} on, which takes {end} bytes, but the file has {size} bytes. "
            "Copy it again from its source."
        )


def _space(raw: bytes) -> tuple[Triple, Triple]:
    """The scale factors and offsets."""
    numbers = struct.unpack_from("<6d", raw, 131)
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
    return scales, offsets
