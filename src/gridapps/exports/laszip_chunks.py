"""How the points of a LAZ file are compressed: the record of LASzip, and where the chunk table is."""

import os
import struct
from dataclasses import dataclass

from gridapps.exports.errors import BadPointCloud
from gridapps.exports.variable_records import Record, find

USER, NUMBER = b"laszip encoded", 22204
VARIABLE = 0xFFFFFFFF  # chunk size: each chunk has its own number of points
POINTWISE = 1  # compressor without chunks, of LASzip 1 and 2
_CHUNKED = {2, 3}
_ITEMS = 34  # offset of the items
_MOST_ITEMS = 64


@dataclass(frozen=True, kw_only=True)
class Compression:
    """How points are compressed."""

    record: bytes
    compressor: int
    chunk_size: int  # points, or VARIABLE
    item_versions: frozenset[int]

    @property
    def variable(self) -> bool:
        """Whether each chunk has its own number of points. Some COPC files say so by the size 0."""
        return self.compressor != POINTWISE and self.chunk_size in {0, VARIABLE}

    def decodable(self) -> bytes:
        """The record in the form that decoders take."""
        size = self.chunk_size
        if self.compressor == POINTWISE:
            size = VARIABLE - 1  # there is one chunk; lazrs takes 0 for variable chunks
        elif self.variable:
            size = VARIABLE
        return self.record[:12] + struct.pack("<I", size) + self.record[16:]


def read(
    file: int, records: list[Record], *, data: int, size: int, points: int, record_length: int
) -> Compression:
    """Check that the chunk table is in the file and can hold as many points as the header claims.

    Raises BadPointCloud.
    """
    compression = _described(file, records, record_length)
    if compression.compressor == POINTWISE:
        if data + record_length > size:
            raise BadPointCloud("The file is cut off before its first point.")
        return compression
    table = _table_position(file, data=data, size=size)
    version, chunks = struct.unpack("<II", os.pread(file, 8, table))
    if version != 0:
        raise BadPointCloud(f"The LAZ chunk table at byte {table} is damaged.")
    # A chunk holds at least its first point uncompressed, so the file's size limits the number of chunks.
    # Empty chunks are rare: as many again are allowed.
    if chunks > 2 * ((table - data) // record_length) + 2:
        raise BadPointCloud(
            f"The LAZ chunk table claims {chunks} chunks, more than {table - data} bytes can hold: "
            "the file is damaged."
        )
    if not compression.variable and points > chunks * compression.chunk_size:
        raise BadPointCloud(
            f"The header promises {points} points, but there are {chunks} chunks of "
            f"{compression.chunk_size}: "
            "the file is cut off or damaged."
        )
    return compression


def _described(file: int, records: list[Record], record_length: int) -> Compression:
    found = find(records, USER, NUMBER)
    record = found.content(file) if found is not None else b""
    if len(record) < _ITEMS:
        raise BadPointCloud(
            "The points are marked as compressed, but the record that describes it (laszip 22204) is missing."
        )
    compressor, chunk_size = struct.unpack_from("<H10xI", record, 0)
    if compressor not in {POINTWISE, *_CHUNKED}:
        raise BadPointCloud(
            f"The points are compressed with LASzip compressor {compressor}, which is not supported."
        )
    (count,) = struct.unpack_from("<H", record, 32)
    if count > _MOST_ITEMS or len(record) < _ITEMS + 6 * count:
        raise BadPointCloud(
            f"The record laszip 22204 claims {count} items in {len(record)} bytes: it is damaged."
        )
    items = [struct.unpack_from("<HHH", record, _ITEMS + 6 * index) for index in range(count)]
    if sum(length for _, length, _ in items) != record_length:
        raise BadPointCloud(
            f"The header says that a point takes {record_length} bytes, but the record laszip 22204 "
            "describes "
            f"{sum(length for _, length, _ in items)}: one of them is damaged."
        )
    return Compression(
        record=record,
        compressor=compressor,
        chunk_size=chunk_size,
        item_versions=frozenset(version for _, _, version in items),
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
