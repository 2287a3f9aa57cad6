"""A point cloud of any size that uses no disk: a valid LAS file whose points are a hole in a sparse file."""

import struct
from pathlib import Path

import laspy
import numpy as np

RECORD = 30  # bytes of a point in format 6


def sparse_cloud(path: Path, *, size: int) -> Path:
    """Write a LAS 1.4 file of about `size` bytes: two real points, then a hole."""
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = np.full(3, 0.01), np.zeros(3)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = np.array([[0.0, 100.0]] * 3)
    cloud.return_number = cloud.number_of_returns = np.ones(2, dtype=np.uint8)
    cloud.write(str(path))
    points = (size - path.stat().st_size) // RECORD
    with path.open("r+b") as file:
        # LAS 1.4: number of point records, and of those by return, the first one of 15.
        file.seek(247)
        file.write(struct.pack("<Q", points))
        begin = struct.unpack("<I", _at(path, 96, 4))[0]
        file.truncate(begin + points * RECORD)
    return path


def _at(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
