"""The example App on the synthetic city, whose truth is known, under a profile like the platform's."""

import json
from pathlib import Path

import laspy
import numpy as np
import pytest
import rasterio  # type: ignore[import-untyped]
import shapely
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from demo.city import EPSG, City

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]

BORDER = 15.0  # square metres: what a tile's edge leaves of a building may be too small to be one


@pytest.fixture(scope="module")
def ended(buildings_image, run_app, city_tiles):
    """One run with default arguments over the first tile."""
    return run_app(buildings_image, city_tiles[0], {})


def footprints(outputs: Path) -> list[BaseGeometry]:
    """The footprints, moved from WGS 84 back to the CRS of the city."""
    features = json.loads((outputs / "buildings.geojson").read_text())["features"]
    back = Transformer.from_crs(4326, EPSG, always_xy=True)
    return [
        shapely.transform(
            shapely.geometry.shape(feature["geometry"]),
            lambda corners: np.column_stack(back.transform(*corners.T)),
        )
        for feature in features
    ]


def test_it_succeeds_and_tells_its_progress(ended):
    assert ended.exit_code == 0, ended.log
    assert {path.name for path in ended.outputs.iterdir()} == {"dtm.tif", "buildings.geojson", "preview.png"}
    assert ended.progress == sorted(ended.progress)
    assert ended.progress[-1] == 1
    assert len(ended.progress) >= 5
    assert json.loads(ended.stdout)["buildings"] == len(footprints(ended.outputs))


def test_the_terrain_model_is_right_to_centimetres(ended):
    with rasterio.open(ended.outputs / "dtm.tif") as raster:
        elevations = raster.read(1)
        x, y = (np.array(part) for part in raster.xy(*np.indices(elevations.shape).reshape(2, -1)))
        known = elevations.ravel() != raster.nodata
        assert raster.crs.to_epsg() == EPSG
        assert raster.res == (0.5, 0.5)
        assert raster.bounds == pytest.approx((389_500, 5_819_000, 389_750, 5_819_250))
    fault = (elevations.ravel() - City(1).terrain(x, y))[known]
    assert known.mean() > 0.99
    assert np.sqrt(np.mean(fault**2)) < 0.06
    assert abs(fault.mean()) < 0.01


def test_nearly_every_building_is_found_and_little_else(ended, city_tiles):
    with laspy.open(city_tiles[0]) as file:
        tile = shapely.box(*file.header.mins[:2], *file.header.maxs[:2])
    truth = [outline.intersection(tile) for outline in City(1).outlines()]
    truth = [outline for outline in truth if outline.area > BORDER]
    found = footprints(ended.outputs)
    overlap = np.array(
        [[one.intersection(other).area / one.union(other).area for other in found] for one in truth]
    )
    assert np.mean(overlap.max(axis=1) > 0.5) > 0.93  # of the true ones, found
    assert np.mean(overlap.max(axis=0) > 0.5) > 0.93  # of the found ones, true
    assert np.median(overlap.max(axis=1)) > 0.9


def test_heights_are_those_of_the_roofs(ended):
    features = json.loads((ended.outputs / "buildings.geojson").read_text())["features"]
    city = City(1)
    true = dict(zip(city.outlines(), city.buildings, strict=True))
    for feature, shape in zip(features, footprints(ended.outputs), strict=True):
        outline = max(true, key=lambda one: one.intersection(shape).area)
        if len(true[outline].wings) > 1 or outline.symmetric_difference(shape).area > 0.15 * outline.area:
            continue
        (wing,) = true[outline].wings
        centre = city.terrain(np.array(outline.centroid.x), np.array(outline.centroid.y))
        least = wing.eaves - float(centre)
        rise = 0 if wing.roof == "flat" else 0.7 * wing.width / 2
        assert least - 0.8 < feature["properties"]["height_m"] < least + rise + 1.5


def test_arguments_change_the_result(ended, buildings_image, run_app, city_tiles):
    arguments = {"resolution": 2, "min_area": 200, "shape": "outline", "classified": True}
    other = run_app(buildings_image, city_tiles[0], arguments)
    assert other.exit_code == 0, other.log
    with rasterio.open(other.outputs / "dtm.tif") as raster:
        assert raster.res == (2, 2)
    large = footprints(other.outputs)
    assert 0 < len(large) < len(footprints(ended.outputs)) / 2
    assert min(shape.area for shape in large) >= 199
    classes = np.bincount(laspy.read(other.outputs / "classified.laz").classification, minlength=8)
    assert classes[2] > 100_000
    assert classes[6] > 10_000
    assert classes[7] > 100


def test_a_small_window_takes_wide_halls_for_ground(ended, buildings_image, run_app, city_tiles):
    narrow = run_app(buildings_image, city_tiles[0], {"ground_window": 4})
    assert max(shape.area for shape in footprints(ended.outputs)) > 900
    assert max(shape.area for shape in footprints(narrow.outputs)) < 900


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"resolution": 0}, "resolution must be between 0.1 and 50, not 0"),
        ({"resolution": "fine"}, "resolution must be a number, not 'fine'"),
        ({"resolution": True}, "resolution must be a number, not True"),
        ({"shape": "round"}, "shape must be one of rectilinear, outline, not 'round'"),
        ({"classified": 1}, "classified must be true or false, not 1"),
        ({"colour": "red"}, "colour is not known"),
        ([], "must be a JSON object"),
    ],
)
def test_bad_arguments_end_with_a_sentence(buildings_image, run_app, city_tiles, arguments, sentence):
    ended = run_app(buildings_image, city_tiles[0], arguments)
    assert ended.exit_code == 2
    assert ended.log.splitlines()[-1].startswith("Bad arguments: ")
    assert sentence in ended.log
    assert list(ended.outputs.iterdir()) == []


def test_what_is_no_point_cloud_ends_with_a_sentence(buildings_image, run_app, tmp_path):
    page = tmp_path / "page.laz"
    page.write_text("<html>")
    page.chmod(0o644)
    ended = run_app(buildings_image, page, {})
    assert ended.exit_code == 3
    assert "The point cloud cannot be read" in ended.log
    assert "Traceback" not in ended.log


def test_a_model_too_large_for_memory_is_refused_with_what_would_do(buildings_image, run_app, tmp_path):
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.scales = [0.01] * 3
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = (np.random.default_rng(1).random((3, 2000)).T * [9000, 9000, 1]).T
    path = tmp_path / "sparse.laz"
    cloud.write(path)
    path.chmod(0o644)
    ended = run_app(buildings_image, path, {"resolution": 1})
    assert ended.exit_code == 3
    assert "Choose a resolution of 1.5 or more." in ended.log
    ended = run_app(buildings_image, path, {"resolution": 20})
    assert ended.exit_code == 0, ended.log
    assert "CRS: none" in ended.log
