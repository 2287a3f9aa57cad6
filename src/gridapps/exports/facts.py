"""Measuring a point-cloud file, by reading all of it in a process with limits."""

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import shapely

from gridapps.exports.errors import BadPointCloud
from gridapps.exports.reader_process import Reader

VERSION = 1  # of what is measured; facts of an older version are measured again
_BASE_SECONDS = 8.0
_BYTES_PER_SECOND = 1_000_000  # a tenth of what one processor decodes
_Text = Annotated[str, msgspec.Meta(max_length=1000)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


_Spot = tuple[float, float]


class _Polygon(msgspec.Struct, tag_field="type", tag="Polygon", frozen=True):
    coordinates: list[list[_Spot]]


class _MultiPolygon(msgspec.Struct, tag_field="type", tag="MultiPolygon", frozen=True):
    coordinates: list[list[list[_Spot]]]


class Facts(msgspec.Struct, kw_only=True, frozen=True):
    """Facts of one file. Coordinates are in the file's own CRS and units."""

    las_version: Annotated[str, msgspec.Meta(pattern=r"^1\.[0-4]$")]
    point_format: Annotated[int, msgspec.Meta(ge=0, le=10)]
    points: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    bounds: Annotated[list[float], msgspec.Meta(min_length=6, max_length=6)]  # minx, miny, minz, maxx, ...
    returns: Annotated[list[_Count], msgspec.Meta(min_length=15, max_length=15)]  # points by return number
    gps_time: Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)] | None  # least and greatest
    crs: Annotated[str, msgspec.Meta(max_length=64 * 1024)]  # WKT 2, or ""
    crs_name: Annotated[str, msgspec.Meta(max_length=200)]
    crs_code: Annotated[str, msgspec.Meta(max_length=60)]  # such as EPSG:25832+7837, or ""
    corners: Annotated[list[_Spot], msgspec.Meta(min_length=3, max_length=2000)]  # of the footprint
    geojson: _Polygon | _MultiPolygon | None  # the footprint in WGS 84
    remarks: Annotated[list[_Text], msgspec.Meta(max_length=20)]  # sentences

    @property
    def wkb(self) -> bytes:
        """The footprint."""
        return shapely.Polygon(self.corners).wkb


class _Bad(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    bad: str


def measure(path: Path, reader: Reader | None = None) -> Facts:
    """Read every point, in `reader` if one is given. Raises BadPointCloud.

    Takes at most 8 s of processor time plus 1 s for each MB, and at most ten times that of wall-clock time.
    """
    if reader is None:
        with Reader() as own:
            return measure(path, own)
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        line = reader.answer(file, seconds=_BASE_SECONDS + size / _BYTES_PER_SECOND)
    finally:
        os.close(file)
    return _decoded(line)


def check_header(path: Path, reader: Reader) -> None:
    """Raise BadPointCloud if the header alone says that the file cannot be imported. It is read at once."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        line = reader.answer(file, seconds=0)
    finally:
        os.close(file)
    if line != b"{}\n":
        _decoded(line)  # it raises what is wrong


def _decoded(line: bytes) -> Facts:
    """The answer of the reader, which a hostile file may have taken over."""
    try:
        answer = msgspec.json.decode(line, type=dict[str, Any])
        if "bad" in answer:
            raise BadPointCloud(msgspec.convert(answer, _Bad).bad[:2000])
        return msgspec.convert(answer, Facts)
    except ValueError:
        raise BadPointCloud(
            "The program that reads points gave no valid answer: the file is malicious."
        ) from None
