"""Coordinate systems from GeoTIFF keys and WKT, and footprints in WGS 84."""

import os
import struct
from pathlib import Path
from typing import Any

import pyproj
import pytest
import shapely

from gridapps.exports import coordinates, geokeys, headers
from gridapps.exports.coordinates import Named
from gridapps.exports.geokeys import USER_DEFINED, Unclear
from tests.exports import odd_files as odd

PROJECTED = {1024: 1}
TRANSVERSE = {
    **PROJECTED, 3072: USER_DEFINED, 3073: "My System", 2048: 4258, 3075: 1,
    3080: 9.0, 3081: 0.0, 3082: 500_000.0, 3083: 0.0, 3092: 0.9996,
}  # fmt: skip
CONIC = {
    **PROJECTED, 3072: USER_DEFINED, 2048: 4269, 3075: 8, 3076: 9003,
    3078: 43.0, 3079: 45.5, 3084: -120.5, 3085: 41.75, 3086: 400_000 * 3937 / 1200, 3087: 0.0,
}  # fmt: skip


def records(keys: dict[int, Any]) -> tuple[bytes, bytes, bytes]:
    """The contents of the records 34735, 34736 and 34737."""
    entries, doubles, texts = b"", b"", b""
    for key, value in sorted(keys.items()):
        match value:
            case float():
                entries += struct.pack("<4H", key, 34736, 1, len(doubles) // 8)
                doubles += struct.pack("<d", value)
            case str():
                entries += struct.pack("<4H", key, 34737, len(value) + 1, len(texts))
                texts += value.encode("latin-1") + b"|"
            case _:
                entries += struct.pack("<4H", key, 0, 1, value)
    return struct.pack("<4H", 1, 1, 0, len(keys)) + entries, doubles, texts


def named(keys: dict[int, Any]) -> Named:
    return coordinates._named(b"", *records(keys))


@pytest.mark.parametrize(
    ("keys", "code", "name"),
    [
        ({**PROJECTED, 3072: 25832}, "EPSG:25832", "ETRS89 / UTM zone 32N"),
        ({3072: 25832}, "EPSG:25832", "ETRS89 / UTM zone 32N"),
        (
            {**PROJECTED, 3072: 25832, 4096: 5783},
            "EPSG:5555",
            "ETRS89 / UTM zone 32N + DHHN92 height",
        ),
        ({1024: 2, 2048: 4326}, "EPSG:4326", "WGS 84"),
        ({1024: 2, 2048: 4326, 4096: 5773}, "EPSG:9707", "WGS 84 + EGM96 height"),
        ({1024: 2, 2048: 4326, 4096: 5030}, "EPSG:4979", "WGS 84"),
        ({1024: 3, 2048: 4978}, "EPSG:4978", "WGS 84"),
        ({1024: 3, 2048: 4326}, "EPSG:4978", "WGS 84"),
        ({**PROJECTED, 3072: USER_DEFINED, 2048: 4258, 3074: 16032}, "EPSG:25832", "user-defined"),
        (TRANSVERSE, "EPSG:25832", "My System"),
        ({**TRANSVERSE, 3073: "Höhenweg"}, "EPSG:25832", "Höhenweg"),
        ({**TRANSVERSE, 3073: "ESRI PE String = x|PCS Name = Mine"}, "EPSG:25832", "Mine"),
        ({**TRANSVERSE, 2048: USER_DEFINED, 2050: 6258}, "EPSG:25832", "My System"),
        ({**TRANSVERSE, 4096: 7837}, "EPSG:25832+7837", "My System + DHHN2016 height"),
        (CONIC, "", "user-defined"),
        ({}, "", ""),
    ],
)
def test_keys_become_the_coordinate_system_they_describe(keys, code, name):
    found = named(keys)
    assert (found.code, found.name, found.remarks) == (code, name, ())
    if found.wkt:
        assert pyproj.CRS.from_wkt(found.wkt).name == name


@pytest.mark.parametrize(
    ("keys", "code"), [(TRANSVERSE, 25832), (CONIC, 2992), ({**PROJECTED, 3072: 32610}, 32610)]
)
def test_a_projection_from_parameters_is_that_of_its_code(keys, code):
    """The conic one is EPSG:2992 in US feet instead of international ones."""
    spot = {25832: (9.5, 48.5), 2992: (-121.0, 44.0), 32610: (-121.0, 44.0)}[code]
    crs, _ = geokeys.coordinate_system(keys)
    assert crs is not None
    here = pyproj.Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True).transform(*spot)
    official = pyproj.CRS.from_epsg(code)
    there = pyproj.Transformer.from_crs(official.geodetic_crs, official, always_xy=True).transform(*spot)
    factor = crs.axis_info[0].unit_conversion_factor / official.axis_info[0].unit_conversion_factor
    assert [value * factor for value in here] == pytest.approx(there, abs=0.01)


def test_unit_key_overrides_the_unit_of_the_code():
    crs, _ = geokeys.coordinate_system({**PROJECTED, 3072: 26910, 3076: 9003})
    assert crs is not None
    assert crs.axis_info[0].unit_name == "US survey foot"
    assert crs.to_epsg() is None
    metres = pyproj.Transformer.from_crs(4269, 26910, always_xy=True).transform(-121, 44)
    feet = pyproj.Transformer.from_crs(4269, crs, always_xy=True).transform(-121, 44)
    assert [value * 1200 / 3937 for value in feet] == pytest.approx(metres)


@pytest.mark.parametrize(
    ("keys", "remark"),
    [
        ({**PROJECTED, 3072: 1}, "cannot be understood"),
        ({**PROJECTED, 3072: 4326}, "EPSG:4326 is not a projected coordinate system"),
        ({**PROJECTED, 3072: USER_DEFINED, 2048: 4258}, "projection, method None of GeoTIFF"),
        ({**TRANSVERSE, 3075: 27}, "projection, method 27 of GeoTIFF"),
        ({**CONIC, 3079: 7}, "lacks the parameter 'Latitude of 2nd standard parallel'"),
        ({**TRANSVERSE, 2048: USER_DEFINED}, "name neither a datum nor an ellipsoid"),
        ({**TRANSVERSE, 3076: 9999}, "unit EPSG:9999"),
        ({**TRANSVERSE, 2054: 9101}, "in the unit EPSG:9101"),
        ({**TRANSVERSE, 3080: float("nan")}, "cannot be understood"),
        ({1024: 2, 2048: 25832}, "EPSG:25832 is not a geographic"),
        ({1024: 3, 2048: USER_DEFINED}, "neither a datum"),
    ],
)
def test_keys_that_are_unclear_give_no_coordinate_system(keys, remark):
    found = named(keys)
    assert (found.wkt, found.name, found.code, found.horizontal) == ("", "", "", None)
    assert len(found.remarks) == 1
    assert remark in found.remarks[0]


@pytest.mark.parametrize("code", [25832, 9999])
def test_invalid_vertical_part_is_a_remark(code):
    found = named({**PROJECTED, 3072: 25832, 4096: code})
    assert found.code == "EPSG:25832"
    assert f"vertical part, EPSG:{code}" in found.remarks[0]


def test_broken_records_of_keys():
    directory, doubles, texts = records(TRANSVERSE)
    for cut in range(0, len(directory), 9):
        coordinates._named(b"", directory[:cut], doubles[: cut % 30], texts[: cut % 5])
    assert geokeys.parsed(struct.pack("<4H", 1, 1, 0, 9999), b"", b"") == {}
    with pytest.raises(Unclear):
        geokeys.coordinate_system(dict(geokeys.parsed(directory, b"", b"")) | {3075: 8, 2048: 4258})


def test_wkt_precedes_keys_unless_it_is_broken():
    wkt = pyproj.CRS.from_epsg(2056).to_wkt("WKT1_GDAL").encode() + b"\0\0"
    keys = records({**PROJECTED, 3072: 25832})
    assert coordinates._named(wkt, *keys).code == "EPSG:2056"
    found = coordinates._named(b'PROJCS["broken', *keys)
    assert found.code == "EPSG:25832"
    assert "cannot be understood" in found.remarks[0]
    assert coordinates._named(b"\0\0", b"", b"", b"") == Named()


def test_latin_1_and_control_characters_in_wkt_are_shown_safely():
    wkt = pyproj.CRS.from_epsg(25832).to_wkt().replace("ETRS89 / UTM", "\x1b[2JHöhe / UTM").encode("latin-1")
    assert coordinates._named(wkt, b"", b"", b"").name == "\\x1b[2JHöhe / UTM zone 32N"


def moved(code: str, box: tuple[float, float, float, float]) -> tuple[Any, str]:
    crs = pyproj.CRS.from_user_input(code)
    place, remark = coordinates.geojson(
        shapely.box(*box), coordinates._described(crs, []), [box[0], box[1], 0, box[2], box[3], 0]
    )
    return place and shapely.geometry.shape(place), remark


@pytest.mark.parametrize(
    ("code", "box", "expected"),
    [
        ("EPSG:4326", (9, 48, 9.1, 48.1), (9, 48, 9.1, 48.1)),
        ("OGC:CRS84", (9, 48, 9.1, 48.1), (9, 48, 9.1, 48.1)),
        ("EPSG:25832", (500_000, 5_400_000, 500_100, 5_400_100), (9.0, 48.7527, 9.00136, 48.7536)),
        ("EPSG:25832+7837", (500_000, 5_400_000, 500_100, 5_400_100), (9.0, 48.7527, 9.00136, 48.7536)),
        ("EPSG:2994", (636_000, 848_900, 637_200, 849_500), (-123.0753, 44.0494, -123.0706, 44.0512)),
        ("EPSG:6557", (636_000, 848_900, 637_200, 849_500), (-123.0753, 44.0494, -123.0706, 44.0512)),
        ("EPSG:2056", (2_600_000, 1_200_000, 2_600_100, 1_200_100), (7.4386, 46.9511, 7.44, 46.952)),
    ],
)
def test_footprints_in_wgs_84(code, box, expected):
    place, remark = moved(code, box)
    assert remark == ""
    assert place is not None
    assert place.is_valid
    assert place.exterior.is_ccw
    assert place.bounds == pytest.approx(expected, abs=0.005)


def test_a_footprint_across_180_degrees_has_two_parts():
    place, remark = moved("EPSG:32760", (800_000, 8_000_000, 840_000, 8_040_000))
    assert (remark, place.geom_type) == ("", "MultiPolygon")
    assert place.is_valid
    assert place.area < 1
    west, east = sorted(part.bounds for part in place.geoms)
    assert west[0] == -180
    assert east[2] == 180


@pytest.mark.parametrize(
    ("code", "box", "remark"),
    [
        ("EPSG:4326", (515_393, 4_918_340, 515_400, 4_918_364), "has degrees, but x reaches"),
        ("EPSG:25832", (5e12, 5e12, 6e12, 6e12), "is not defined"),
        ("EPSG:4978", (515_393, 4_918_340, 515_400, 4_918_364), "far from its surface"),
        ("EPSG:3995", (-1000, -1000, 1000, 1000), "is not defined"),
    ],
)
def test_a_footprint_in_a_wrong_coordinate_system_has_no_place(code, box, remark):
    place, said = moved(code, box)
    assert place is None
    assert remark in said


def test_a_file_without_a_coordinate_system_has_no_place(tmp_path):
    assert coordinates.geojson(shapely.box(0, 0, 1, 1), Named(), [0] * 6) == (None, "")


def test_the_records_of_a_file_are_found(tmp_path: Path):
    """Records before and behind the points; one that is too long is not read."""
    wkt = pyproj.CRS.from_epsg(2056).to_wkt().encode()
    raw = odd.las("1.4", 6)
    struct.pack_into("<QI", raw, 235, len(raw), 1)
    for content, code in ((wkt, "EPSG:2056"), (wkt + bytes(70_000), "")):
        path = tmp_path / "cloud.las"
        head = struct.pack("<H16sHQ32s", 0, b"LASF_Projection", 2112, len(content), b"")
        path.write_bytes(raw + head + content)
        with path.open("rb") as file:
            header = headers.read(file.fileno(), size=os.fstat(file.fileno()).st_size)
            assert coordinates.named_by(file.fileno(), header).code == code
