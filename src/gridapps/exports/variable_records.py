"""The variable-length records of a LAS file: what they are, and where. Their content is not read."""

import os
import struct
from dataclasses import dataclass

from gridapps.exports.errors import BadPointCloud

MOST = 10_000  # records of each kind; usual files have a few, and each takes a read
_VLR_HEAD = 54
_EVLR_HEAD = 60


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record, and where its content is."""

    user: bytes  # without the zeros at its end
    number: int
    start: int
    length: int
    extended: bool = False  # it follows the points

    def content(self, file: int, *, most: int = 65_535) -> bytes:
        """At most `most` bytes of its content."""
        return os.pread(file, min(self.length, most), self.start)


def before_points(file: int, *, start: int, count: int, end: int) -> tuple[list[Record], str]:
    """The records between header and points, and a remark if some run into the points; those are left out.

    PDAL and laspy read the points of such a file, because the header says where they start. A count that
    makes libraries use all memory raises BadPointCloud.
    """
    if count > MOST:
        raise BadPointCloud(
            f"The header claims {count} variable-length records, but there are only {end - start} bytes "
            f"between the header and the points, and at most {MOST} are read. The file is damaged or "
            "malicious."
        )
    found: list[Record] = []
    for number in range(1, count + 1):
        head = os.pread(file, _VLR_HEAD, start) if start + _VLR_HEAD <= end else b""
        if len(head) < _VLR_HEAD:
            return found, _runs_over(number, count)
        user, record, length = struct.unpack_from("<16sHH", head, 2)
        start += _VLR_HEAD
        if start + length > end:
            return found, _runs_over(number, count)
        found.append(Record(user=_name(user), number=record, start=start, length=length))
        start += length
    return found, ""


def behind_points(file: int, *, start: int, count: int, size: int, data: int) -> tuple[list[Record], str]:
    """The extended records of LAS 1.4, and a remark if some are missing."""
    if count > MOST:
        raise BadPointCloud(
            f"The header claims {count} extended records from byte {start} on; at most {MOST} are read. "
            "The file is damaged or malicious."
        )
    found: list[Record] = []
    for number in range(1, count + 1):
        head = os.pread(file, _EVLR_HEAD, start) if data <= start <= size - _EVLR_HEAD else b""
        if len(head) < _EVLR_HEAD:
            return found, (
                f"Extended record {number} of {count} should be at byte {start}, but the file has {size} "
                "bytes. "
                "Its points are complete; PDAL 2.2 fails on such a file."
            )
        user, record, length = struct.unpack_from("<16sHQ", head, 2)
        start += _EVLR_HEAD
        if length > size - start:
            return found, (
                f"Extended record {number} of {count} ends beyond the end of the file. Its points are "
                "complete."
            )
        found.append(Record(user=_name(user), number=record, start=start, length=length, extended=True))
        start += length
    return found, ""


def find(records: list[Record], user: bytes, number: int) -> Record | None:
    """The first record of this kind."""
    return next((each for each in records if (each.user, each.number) == (user, number)), None)


def _name(user: bytes) -> bytes:
    return user.rstrip(b"\0")


def _runs_over(number: int, count: int) -> str:
    return (
        f"Variable-length record {number} of {count} runs into the points. It and the records after it are "
        "not read."
    )
