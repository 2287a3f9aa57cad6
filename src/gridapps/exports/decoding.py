"""The points of a file as records, piece by piece. Runs in the reader.

Records are read as bytes, so that faulty names and descriptions of extra dimensions do not matter. LAZ is
decoded by lazrs, and where that cannot, by LASzip.
"""

import os
from collections.abc import Iterator
from typing import Any, Protocol

import laszip
import lazrs
import numpy as np
from numpy.typing import NDArray

from gridapps.exports.errors import BadPointCloud
from gridapps.exports.headers import Header
from gridapps.exports.laszip_chunks import Compression

_PIECE_POINTS = 500_000
_PIECE_BYTES = 32 * 1024**2
_LARGEST_CHUNK = 256 * 1024**2  # bytes of records; usual chunks have 50,000 points
_NEWEST_ITEM = 3  # version of LASzip's items that lazrs decodes

Records = NDArray[np.void]
Chunks = list[tuple[int, int]]  # points and bytes of each chunk


class _Decoder(Protocol):
    def decompress_many(self, into: bytearray) -> None:
        """Fill `into` with the next points."""


def pieces(file: int, header: Header, remarks: list[str]) -> Iterator[Records]:
    """All points of the header in arrays with the fields X, Y, Z, returns, and gps if the format has it.

    Moves the file position. Adds what libraries will not read to `remarks`. Raises BadPointCloud; any error
    of a decoder means that the file is damaged.
    """
    kind = _fields(header)
    compression = header.compression
    parts: Iterator[bytes | bytearray]
    if compression is None:
        parts = _stored(file, header)
    else:
        chunks = _chunks(file, header, compression, remarks)
        if any(points == 0 for points, _ in chunks):
            remarks.append(
                "The file has an empty chunk: PDAL 2.2, LASzip and laspy with its sequential decoder fail "
                "on it."
            )
            parts = _chunk_by_chunk(file, header, compression, chunks)
        else:
            parts = _streamed(header, _decoder(file, header, compression))
    for part in parts:
        yield np.frombuffer(part, dtype=kind)


def _fields(header: Header) -> np.dtype[np.void]:
    names, kinds, offsets = ["X", "Y", "Z", "returns"], ["<i4", "<i4", "<i4", "u1"], [0, 4, 8, 14]
    if header.point_format not in {0, 2}:
        names, kinds = [*names, "gps"], [*kinds, "<f8"]
        offsets.append(22 if header.point_format >= 6 else 20)
    return np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": header.record_length})


def _counts(header: Header) -> Iterator[int]:
    """The number of points of each piece."""
    piece = max(1, min(_PIECE_POINTS, _PIECE_BYTES // header.record_length))
    for begin in range(0, header.points, piece):
        yield min(piece, header.points - begin)


def _stored(file: int, header: Header) -> Iterator[bytes | bytearray]:
    at = header.data
    for count in _counts(header):
        part = os.pread(file, count * header.record_length, at)
        if len(part) < count * header.record_length:
            raise BadPointCloud("The file became shorter while it was read.")
        at += len(part)
        yield part


def _streamed(header: Header, decoder: _Decoder) -> Iterator[bytes | bytearray]:
    for count in _counts(header):
        part = bytearray(count * header.record_length)
        decoder.decompress_many(part)
        yield part


def _chunks(file: int, header: Header, compression: Compression, remarks: list[str]) -> Chunks:
    """The chunk table of variable chunks; otherwise an empty list."""
    if not compression.variable:
        return []
    with os.fdopen(os.dup(file), "rb") as source:
        source.seek(header.data)
        chunks: Chunks = lazrs.read_chunk_table(source, lazrs.LazVlr(compression.decodable()))
    points = sum(count for count, _ in chunks)
    if points < header.points:
        raise BadPointCloud(
            f"The header promises {header.points} points, but the chunks have {points}: the file is cut "
            "off or "
            "damaged."
        )
    if points > header.points:
        remarks.append(
            f"The chunks have {points} points, but the header says {header.points}; those after are not read."
        )
    return chunks


def _chunk_by_chunk(
    file: int, header: Header, compression: Compression, chunks: Chunks
) -> Iterator[bytes | bytearray]:
    at, left = header.data + 8, header.points
    for points, length in chunks:
        if points * header.record_length > _LARGEST_CHUNK:
            raise BadPointCloud(
                f"A chunk of the file has {points} points; beside empty chunks, at most "
                f"{_LARGEST_CHUNK // header.record_length} can be read. Write the file again with another "
                "tool."
            )
        if points and left:
            part = bytearray(points * header.record_length)
            lazrs.decompress_points_with_chunk_table(
                os.pread(file, length, at), compression.decodable(), part, [(points, length)]
            )
            used = min(points, left)
            left -= used
            yield part[: used * header.record_length]
        at += length


def _decoder(file: int, header: Header, compression: Compression) -> _Decoder:
    source = os.fdopen(os.dup(file), "rb")
    if max(compression.item_versions, default=0) > _NEWEST_ITEM:
        source.seek(0)
        return _Laszip(source)
    source.seek(header.data)
    decoder: _Decoder = lazrs.LasZipDecompressor(source, compression.decodable())
    return decoder


class _Laszip:
    """LASzip reads the header once more. It decodes what lazrs cannot: items of version 4."""

    def __init__(self, source: Any) -> None:
        self._unzipper = laszip.LasUnZipper(source)

    def decompress_many(self, into: bytearray) -> None:
        """Fill `into` with the next points."""
        self._unzipper.decompress_into(into)
