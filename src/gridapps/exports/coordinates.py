"""The coordinate system that a file names, and its footprint in WGS 84. Runs in the reader."""

import json
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from gridapps.exports import geokeys
from gridapps.exports.headers import Header
from gridapps.exports.shown_text import decoded, first_line, printable
from gridapps.exports.variable_records import find

_USER = b"LASF_Projection"
_WKT, _KEYS, _DOUBLES, _TEXTS = 2112, 34735, 34736, 34737
_LONGEST = 64 * 1024  # of WKT
_WGS84 = "EPSG:4326"
_PARTS = 16  # of an edge of the footprint, because straight lines become curves
_DETAIL = 1e-4  # of the extent: what the footprint in WGS 84 may be simplified by
_DIGITS = 9  # of degrees: 0.1 mm
_CODE = re.compile(r"[A-Z]{1,20}:[A-Za-z0-9_.]{1,20}")


@dataclass(frozen=True, kw_only=True)
class Named:
    """A coordinate system; empty if the file names none, or none that can be understood."""

    wkt: str = ""  # WKT 2
    name: str = ""
    code: str = ""  # such as EPSG:25832 or EPSG:25832+7837
    remarks: tuple[str, ...] = ()
    degrees: bool = False
    geocentric: bool = False
    horizontal: pyproj.CRS | None = None  # the part that footprints are in


def named_by(file: int, header: Header) -> Named:
    """What the file's records name. The result is cached, because the files of one delivery name the same."""
    contents = []
    for number in (_WKT, _KEYS, _DOUBLES, _TEXTS):
        record = find(header.records, _USER, number)
        fits = record is not None and record.length <= _LONGEST
        contents.append(record.content(file, most=_LONGEST) if record is not None and fits else b"")
    return _named(*contents)


@lru_cache(maxsize=64)
def _named(wkt: bytes, directory: bytes, doubles: bytes, texts: bytes) -> Named:
    remarks: list[str] = []
    crs = _of_wkt(wkt, remarks)
    if crs is None and directory:
        crs = _of_keys(directory, doubles, texts, remarks)
    try:
        return _described(crs, remarks)
    except Exception as error:  # pyproj raises many kinds of errors for unusual systems
        return Named(remarks=(*remarks, _not_understood(error)))


def _of_wkt(wkt: bytes, remarks: list[str]) -> pyproj.CRS | None:
    text = decoded(wkt).strip()
    if not text:
        return None
    try:
        return pyproj.CRS.from_wkt(text)
    except Exception as error:  # pyproj raises many kinds of errors for a broken record
        remarks.append(_not_understood(error))
        return None


def _of_keys(directory: bytes, doubles: bytes, texts: bytes, remarks: list[str]) -> pyproj.CRS | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            crs, fault = geokeys.coordinate_system(geokeys.parsed(directory, doubles, texts))
    except Exception as error:  # pyproj raises many kinds of errors for broken keys
        remarks.append(_not_understood(error))
        return None
    if fault:
        remarks.append(f"The coordinate system of the file is known in part: {fault}.")
    return crs


def _not_understood(error: Exception) -> str:
    return (
        "The coordinate system of the file cannot be understood, so the export has none: "
        f"{first_line(error).rstrip('.')}."
    )


def _described(crs: pyproj.CRS | None, remarks: list[str]) -> Named:
    if crs is None:
        return Named(remarks=tuple(remarks))
    wkt = crs.to_wkt() or ""
    if not wkt or len(wkt) > _LONGEST:
        return Named(remarks=(*remarks, "The coordinate system of the file cannot be written as WKT 2."))
    horizontal = _horizontal(crs)
    return Named(
        wkt=wkt.replace("\0", ""),
        name=printable(crs.name),
        code=_code(crs),
        remarks=tuple(remarks),
        geocentric=crs.is_geocentric,
        degrees=horizontal is not None and horizontal.is_geographic,
        horizontal=horizontal,
    )


def _horizontal(crs: pyproj.CRS) -> pyproj.CRS | None:
    """The part of x and y; None if they are not positions on a map."""
    while crs.is_bound and crs.source_crs is not None:
        crs = crs.source_crs
    if crs.is_compound:
        return _horizontal(crs.sub_crs_list[0])
    return crs.to_2d() if crs.is_projected or crs.is_geographic else None


def _code(crs: pyproj.CRS) -> str:
    found = crs.to_authority()
    codes = [found] if found else []
    if not found and crs.is_compound:
        codes = [part.to_authority() for part in crs.sub_crs_list]
    if not codes or None in codes or len({authority for authority, _ in codes}) > 1:
        return ""
    code = f"{codes[0][0]}:{codes[0][1]}"
    return "+".join([code, *(number for _, number in codes[1:])]) if _CODE.fullmatch(code) else ""


def geojson(polygon: shapely.Polygon, named: Named, bounds: list[float]) -> tuple[dict[str, Any] | None, str]:
    """The polygon as geometry of GeoJSON (RFC 7946), or None if its position is unknown; and a remark."""
    if named.geocentric and not _on_earth(bounds):
        return None, (
            f"The coordinate system {named.name} has coordinates from the centre of the Earth, but the "
            "points "
            "are far from its surface: it is not that of the points."
        )
    if named.horizontal is None:
        return None, ""
    left, bottom, right, top = polygon.bounds
    if named.degrees and not (left > -361 and right < 361 and bottom > -91 and top < 91):
        return None, (
            f"The coordinate system {named.name} has degrees, but x reaches from {left:g} to {right:g} and y "
            f"from {bottom:g} to {top:g}: it is not that of the points."
        )
    try:
        moved = _moved(polygon, named.horizontal)
    except Exception:  # pyproj and shapely raise many kinds of errors for coordinates out of range
        moved = None
    if moved is None:
        return None, (
            f"The points lie where the coordinate system {named.name} is not defined: it is not that of the "
            "points, or cannot be converted to WGS 84."
        )
    return json.loads(shapely.to_geojson(moved)), ""


def _on_earth(bounds: list[float]) -> bool:
    """Whether the middle of geocentric bounds is near the Earth's surface."""
    middle = (np.array(bounds[:3]) + np.array(bounds[3:])) / 2
    return bool(6.2e6 < np.linalg.norm(middle) < 6.5e6)


def _moved(polygon: shapely.Polygon, horizontal: pyproj.CRS) -> shapely.Geometry | None:
    left, bottom, right, top = polygon.bounds
    longest = max(right - left, top - bottom) / _PARTS
    spots = shapely.get_coordinates(shapely.segmentize(polygon, longest))
    inside = np.array(polygon.representative_point().coords)
    longitudes, latitudes = _transformer(horizontal).transform(*np.vstack((spots, inside)).T)
    if not (np.isfinite(longitudes).all() and np.isfinite(latitudes).all()) or np.abs(latitudes).max() > 90:
        return None
    crosses = longitudes.max() - longitudes.min() > 180  # the line where the date changes
    if crosses:
        longitudes = np.where(longitudes < 0, longitudes + 360, longitudes)
    ring: BaseGeometry = shapely.Polygon(np.round(np.column_stack((longitudes, latitudes))[:-1], _DIGITS))
    ring = shapely.simplify(ring, _DETAIL * max(np.ptp(longitudes), np.ptp(latitudes)))
    if not ring.is_valid:
        ring = shapely.make_valid(ring)
    if not ring.buffer(1e-9).contains(shapely.Point(longitudes[-1], latitudes[-1])):
        return None  # around a pole
    return shapely.orient_polygons(_cut(ring) if crosses else ring)


def _cut(ring: shapely.Geometry) -> shapely.Geometry:
    """A polygon beyond 180 degrees as two, on both sides of the line (RFC 7946, 3.1.9)."""
    west = shapely.intersection(ring, shapely.box(0, -90, 180, 90))
    east = shapely.transform(
        shapely.intersection(ring, shapely.box(180, -90, 360, 90)), lambda spots: spots - [360, 0]
    )
    parts = [part for side in (west, east) for part in shapely.get_parts(side) if part.geom_type == "Polygon"]
    return shapely.MultiPolygon(parts)


def warm_up() -> None:
    """Use each part of the libraries once, so that they open and load what they need."""
    crs = pyproj.CRS.from_user_input("EPSG:25832+7837")
    named = _named((crs.to_wkt() or "").encode(), b"", b"", b"")
    geojson(shapely.box(5e5, 5e6, 5.1e5, 5.1e6), named, [5e5, 5e6, 0, 5.1e5, 5.1e6, 0])
    _transformer.cache_clear()
    _named.cache_clear()


@lru_cache(maxsize=64)
def _transformer(horizontal: pyproj.CRS) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(horizontal, _WGS84, always_xy=True)
