"""The points of an uncompressed LAS 1.4 file, read in chunks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_CHUNK = 1_000_000  # points at once


def records(las: Path, mode: str = "r") -> np.memmap:
    """The records: raw integer coordinates, the byte of return numbers, the class."""
    with las.open("rb") as file:
        head = file.read(375)
    (offset,), (length,), (count,) = (
        struct.unpack_from(*spot) for spot in (("<I", head, 96), ("<H", head, 105), ("<Q", head, 247))
    )
    layout = np.dtype(
        {
            "names": ["x", "y", "z", "returns", "classification"],
            "formats": ["<i4", "<i4", "<i4", "u1", "u1"],
            "offsets": [0, 4, 8, 14, 16],
            "itemsize": length,
        }
    )
    return np.memmap(las, dtype=layout, mode=mode, offset=offset, shape=(count,))


def chunks(las: Path) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Chunks of the file: their range of records, and their real coordinates."""
    with las.open("rb") as file:
        numbers = struct.unpack_from("<6d", file.read(375), 131)
    table = records(las)
    for start in range(0, len(table), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(table)))
        x, y, z = (table[part][name] * numbers[i] + numbers[i + 3] for i, name in enumerate("xyz"))
        yield part, x, y, z


def class_counts(las: Path) -> list[int]:
    """Number of points in each class."""
    table = records(las)
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(table), _CHUNK):
        counts += np.bincount(table["classification"][start : start + _CHUNK], minlength=256)
    return [int(count) for count in counts]
