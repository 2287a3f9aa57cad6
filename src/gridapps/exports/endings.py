"""The true ending of a point cloud's file name. Some libraries go by the ending and not by the header."""

from pathlib import Path

_HEAD = 589  # bytes: a header of LAS 1.4, and the record that every COPC file has right behind it
_FORMAT = 104  # offset of the point format, whose highest bit says that the points are compressed
_COPC = (377, b"copc\0")  # offset and beginning of the user id of that record


def ending_of(path: Path) -> str:
    """`.las`, `.laz` or `.copc.laz`, by the header. Raises OSError when the file cannot be read."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    offset, copc = _COPC
    if head[offset : offset + len(copc)] == copc:
        return ".copc.laz"
    compressed = len(head) > _FORMAT and head[_FORMAT] & 0x80
    return ".laz" if compressed or not head.startswith(b"LASF") else ".las"
