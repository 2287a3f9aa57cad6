"""A coordinate system from GeoTIFF keys, with its vertical part. Runs in the reader.

The keys are those of the GeoTIFF specification 1.1 (OGC 19-008). A projection that is described by its
parameters becomes a projected coordinate system. What cannot be built raises Unclear; the geographic base of
a projection is never taken for the coordinate system of projected coordinates.
"""

import struct
from typing import Any

import pyproj
from pyproj.crs import CompoundCRS, CoordinateOperation, Datum, Ellipsoid  # type: ignore[attr-defined]

from gridapps.exports.shown_text import decoded

USER_DEFINED = 32767
_MODEL, _CITATION = 1024, 1026
_GEOGRAPHIC, _DATUM, _PRIME_MERIDIAN, _ELLIPSOID = 2048, 2050, 2051, 2056
_ANGULAR, _MAJOR, _MINOR, _FLATTENING = 2054, 2057, 2058, 2059
_PROJECTED, _PROJECTED_CITATION, _PROJECTION, _METHOD, _UNIT, _UNIT_SIZE = 3072, 3073, 3074, 3075, 3076, 3077
_VERTICAL, _VERTICAL_UNIT = 4096, 4099
_DEGREE = 9102
_ELLIPSOIDAL = range(5001, 5034)  # codes of GeoTIFF 1.0 for heights above an ellipsoid
_UNITS = {
    9001: ("metre", 1.0),
    9002: ("foot", 0.3048),
    9003: ("US survey foot", 1200 / 3937),
    9005: ("Clarke's foot", 0.3047972654),
    9036: ("kilometre", 1000.0),
    9037: ("Clarke's yard", 0.9143917962),
    9084: ("Indian yard", 0.9143985307970),
}
_LATITUDES, _LONGITUDES = (3081, 3085, 3089), (3080, 3084, 3088)
_EASTINGS, _NORTHINGS = (3082, 3086, 3090), (3083, 3087, 3091)
_SCALES = (3092, 3093)
# Parameters: EPSG's name and code, the keys that may have it, its kind.
_ORIGIN = (
    ("Latitude of natural origin", 8801, _LATITUDES, "angle"),
    ("Longitude of natural origin", 8802, _LONGITUDES, "angle"),
)
_SHIFT = (("False easting", 8806, _EASTINGS, "length"), ("False northing", 8807, _NORTHINGS, "length"))
_SCALED = (*_ORIGIN, ("Scale factor at natural origin", 8805, _SCALES, "scale"), *_SHIFT)
_CONIC = (
    ("Latitude of false origin", 8821, (3085, 3081, 3089), "angle"),
    ("Longitude of false origin", 8822, (3084, 3080, 3088), "angle"),
    ("Latitude of 1st standard parallel", 8823, (3078,), "angle"),
    ("Latitude of 2nd standard parallel", 8824, (3079,), "angle"),
    ("Easting at false origin", 8826, (3086, 3082, 3090), "length"),
    ("Northing at false origin", 8827, (3087, 3083, 3091), "length"),
)
_POLAR = (
    ("Latitude of natural origin", 8801, _LATITUDES, "angle"),
    ("Longitude of natural origin", 8802, (3095, *_LONGITUDES), "angle"),
    ("Scale factor at natural origin", 8805, _SCALES, "scale"),
    *_SHIFT,
)
_OBLIQUE = (
    ("Latitude of projection centre", 8811, (3089, 3081), "angle"),
    ("Longitude of projection centre", 8812, (3088, 3080), "angle"),
    ("Azimuth at projection centre", 8813, (3094,), "angle"),
    ("Angle from Rectified to Skew Grid", 8814, (3096, 3094), "angle"),
    ("Scale factor at projection centre", 8815, (3093, 3092), "scale"),
    *_SHIFT,
)
_METHODS: dict[int, tuple[str, int, tuple[tuple[str, int, tuple[int, ...], str], ...]]] = {
    1: ("Transverse Mercator", 9807, _SCALED),
    3: ("Hotine Oblique Mercator (variant A)", 9812, _OBLIQUE),
    7: ("Mercator (variant A)", 9804, _SCALED),
    8: ("Lambert Conic Conformal (2SP)", 9802, _CONIC),
    9: ("Lambert Conic Conformal (1SP)", 9801, _SCALED),
    10: ("Lambert Azimuthal Equal Area", 9820, (*_ORIGIN, *_SHIFT)),
    11: ("Albers Equal Area", 9822, _CONIC),
    15: ("Polar Stereographic (variant A)", 9810, _POLAR),
    16: ("Oblique Stereographic", 9809, _SCALED),
}

Keys = dict[int, Any]
Json = dict[str, Any]


class Unclear(Exception):
    """The keys do not say which coordinate system it is. The message ends a sentence."""


def parsed(directory: bytes, doubles: bytes, texts: bytes) -> Keys:
    """Numbers, lists of numbers and texts by key. Keys that point outside their record are left out."""
    keys: Keys = {}
    count = min(
        struct.unpack_from("<H", directory, 6)[0] if len(directory) >= 8 else 0, len(directory) // 8 - 1
    )
    for index in range(count):
        key, location, length, value = struct.unpack_from("<4H", directory, 8 + 8 * index)
        if location == 0:
            keys[key] = value
        elif location == 34736 and 8 * (value + length) <= len(doubles) and length:
            keys[key] = struct.unpack_from("<d", doubles, 8 * value)[0]
        elif location == 34737 and value + length <= len(texts):
            keys[key] = decoded(texts[value : value + length]).strip("| \n")
    return keys


def coordinate_system(keys: Keys) -> tuple[pyproj.CRS | None, str]:
    """The coordinate system, or None if no key names one; and a remark on its vertical part, or "".

    Raises Unclear, pyproj's errors.
    """
    horizontal = _horizontal(keys)
    code = keys.get(_VERTICAL)
    if horizontal is None or code in {None, 0, USER_DEFINED}:
        remark = "" if code != USER_DEFINED or horizontal is None else "its vertical part is user-defined"
        return horizontal, remark
    if code in _ELLIPSOIDAL:
        return horizontal.to_3d(), ""
    try:
        vertical = pyproj.CRS.from_epsg(code)
    except pyproj.exceptions.CRSError:
        return horizontal, f"its vertical part, EPSG:{code}, is unknown"
    if not vertical.is_vertical:
        return horizontal, f"its vertical part, EPSG:{code}, is not a vertical coordinate system"
    vertical = _in_unit(vertical, _unit(keys, _VERTICAL_UNIT))
    name = f"{horizontal.name} + {vertical.name}"
    return CompoundCRS(name, [horizontal, vertical]), ""


def _horizontal(keys: Keys) -> pyproj.CRS | None:
    model, projected, geographic = keys.get(_MODEL), keys.get(_PROJECTED), keys.get(_GEOGRAPHIC)
    if model == 1 or (model in {None, 0, USER_DEFINED} and projected):
        if projected in {None, 0, USER_DEFINED}:
            return _projected(keys)
        crs = pyproj.CRS.from_epsg(projected)
        if not crs.is_projected:
            raise Unclear(f"EPSG:{projected} is not a projected coordinate system")
        return _in_unit(crs, _unit(keys, _UNIT))
    if model == 3:
        return _geocentric(keys)
    return _base(keys) if model == 2 or geographic else None


def _geocentric(keys: Keys) -> pyproj.CRS:
    """Coordinates from the centre of the Earth, with the datum of the geographic coordinate system."""
    code = keys.get(_GEOGRAPHIC)
    if code not in {None, 0, USER_DEFINED} and (crs := pyproj.CRS.from_epsg(code)).is_geocentric:
        return crs
    base = _base(keys).to_json_dict()
    axes = [
        {
            "name": f"Geocentric {axis}",
            "abbreviation": axis,
            "direction": f"geocentric{axis}",
            "unit": "metre",
        }
        for axis in "XYZ"
    ]
    datum = {name: base[name] for name in ("datum", "datum_ensemble") if name in base}
    system = {"subtype": "Cartesian", "axis": axes}
    return pyproj.CRS.from_json_dict(
        {"type": "GeodeticCRS", "name": base["name"], **datum, "coordinate_system": system}
    )


def _base(keys: Keys) -> pyproj.CRS:
    """The geographic coordinate system."""
    if keys.get(_ANGULAR) not in {None, 0, _DEGREE}:
        raise Unclear(f"its angles are in the unit EPSG:{keys[_ANGULAR]}, not in degrees")
    code = keys.get(_GEOGRAPHIC)
    if code not in {None, 0, USER_DEFINED}:
        crs = pyproj.CRS.from_epsg(code)
        if not crs.is_geographic:
            raise Unclear(f"EPSG:{code} is not a geographic coordinate system")
        return crs
    if keys.get(_PRIME_MERIDIAN) not in {None, 0, 8901}:
        raise Unclear(f"its prime meridian is EPSG:{keys[_PRIME_MERIDIAN]}, not Greenwich")
    degree = [
        {"name": name, "abbreviation": short, "direction": direction, "unit": "degree"}
        for name, short, direction in (
            ("Geodetic latitude", "Lat", "north"), ("Geodetic longitude", "Lon", "east")
        )
    ]  # fmt: skip
    return pyproj.CRS.from_json_dict(
        {
            "type": "GeographicCRS",
            "name": "unknown",
            **_datum(keys),
            "coordinate_system": {"subtype": "ellipsoidal", "axis": degree},
        }
    )


def _datum(keys: Keys) -> Json:
    """The member `datum` or `datum_ensemble` of a geographic coordinate system."""
    datum, ellipsoid = keys.get(_DATUM), keys.get(_ELLIPSOID)
    if datum not in {None, 0, USER_DEFINED}:
        named = dict(Datum.from_epsg(datum).to_json_dict())
        named.pop("$schema", None)
        return {"datum_ensemble" if named.get("type") == "DatumEnsemble" else "datum": named}
    if ellipsoid not in {None, 0, USER_DEFINED}:
        shape = dict(Ellipsoid.from_epsg(ellipsoid).to_json_dict())
        shape.pop("$schema", None)
    elif _MAJOR in keys and _FLATTENING in keys:
        shape = {"name": "unknown", "semi_major_axis": keys[_MAJOR], "inverse_flattening": keys[_FLATTENING]}
    elif _MAJOR in keys and _MINOR in keys:
        shape = {"name": "unknown", "semi_major_axis": keys[_MAJOR], "semi_minor_axis": keys[_MINOR]}
    else:
        raise Unclear("the keys name neither a datum nor an ellipsoid")
    return {"datum": {"type": "GeodeticReferenceFrame", "name": "unknown", "ellipsoid": shape}}


def _projected(keys: Keys) -> pyproj.CRS:
    """A projected coordinate system that is described by its parameters."""
    unit = _unit(keys, _UNIT) or _UNITS[9001]
    axes = [
        {"name": name, "abbreviation": name[0], "direction": name[:-3].lower(), "unit": _json(unit)}
        for name in ("Easting", "Northing")
    ]
    base = _base(keys).to_json_dict()
    return pyproj.CRS.from_json_dict(
        {
            "type": "ProjectedCRS",
            "name": _name(keys),
            "base_crs": base,
            "conversion": _conversion(keys, unit),
            "coordinate_system": {"subtype": "Cartesian", "axis": axes},
        }
    )


def _name(keys: Keys) -> str:
    for key in (_PROJECTED_CITATION, _CITATION):
        text = keys.get(key)
        if isinstance(text, str) and text:
            parts = [part.partition("=") for part in text.split("|")]
            named = [value.strip() for head, _, value in parts if head.strip().upper().startswith("PCS NAME")]
            return (named or [parts[0][0].strip()])[0] or "user-defined"
    return "user-defined"


def _conversion(keys: Keys, unit: tuple[str, float]) -> Json:
    code = keys.get(_PROJECTION)
    if code not in {None, 0, USER_DEFINED}:
        known = dict(CoordinateOperation.from_epsg(code).to_json_dict())
        if known.get("type") != "Conversion":
            raise Unclear(f"EPSG:{code} is not a projection")
        return known
    method = keys.get(_METHOD)
    if method not in _METHODS:
        raise Unclear(f"its projection, method {method} of GeoTIFF, is not known here")
    name, number, parameters = _METHODS[method]
    units: dict[str, Any] = {"angle": "degree", "length": _json(unit), "scale": "unity"}
    values = []
    for title, epsg, places, kind in parameters:
        found = [keys[key] for key in places if isinstance(keys.get(key), float)]
        if not found and kind == "angle" and epsg not in {8801, 8802}:
            raise Unclear(f"its projection lacks the parameter {title!r}")
        value = found[0] if found else float(kind == "scale")
        values.append(
            {"name": title, "value": value, "unit": units[kind], "id": {"authority": "EPSG", "code": epsg}}
        )
    return {
        "type": "Conversion",
        "name": "unnamed",
        "method": {"name": name, "id": {"authority": "EPSG", "code": number}},
        "parameters": values,
    }


def _unit(keys: Keys, key: int) -> tuple[str, float] | None:
    """Name and metres of a unit of length; None if no key names one."""
    code = keys.get(key)
    if code in {None, 0}:
        return None
    if code == USER_DEFINED and key == _UNIT and isinstance(keys.get(_UNIT_SIZE), float):
        return "user-defined", keys[_UNIT_SIZE]
    if code not in _UNITS:
        raise Unclear(f"the unit EPSG:{code} is not known here")
    return _UNITS[code]


def _in_unit(crs: pyproj.CRS, unit: tuple[str, float] | None) -> pyproj.CRS:
    """The coordinate system with its axes in this unit. Keys may say feet beside a code in metres."""
    if unit is None or abs(crs.axis_info[0].unit_conversion_factor / unit[1] - 1) < 1e-9:
        return crs
    found = crs.to_json_dict()
    for axis in found["coordinate_system"]["axis"]:
        axis["unit"] = _json(unit)
    found.pop("id", None)
    found["name"] = f"{found['name']} ({unit[0]})"
    return pyproj.CRS.from_json_dict(found)


def _json(unit: tuple[str, float]) -> Json | str:
    return "metre" if unit[1] == 1 else {"type": "LinearUnit", "name": unit[0], "conversion_factor": unit[1]}
