"""The synthetic city is what the demonstration says it is."""

import laspy
import numpy as np
import pytest
import shapely

from demo import city
from demo.layout import plan_buildings


@pytest.fixture(scope="module")
def clouds(city_tiles):
    return [laspy.read(tile) for tile in city_tiles]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(city_tiles, tmp_path):
    again = city.write(tmp_path / "again", seed=1)
    other = city.write(tmp_path / "other", seed=2)
    for tile, same, different in zip(city_tiles, again, other, strict=True):
        assert same.read_bytes() == tile.read_bytes()
        assert different.read_bytes() != tile.read_bytes()


def test_files_are_laz_1_4_with_a_crs_and_no_answers(clouds):
    assert sum(len(cloud.points) for cloud in clouds) >= 2_000_000
    for cloud in clouds:
        assert str(cloud.header.version) == "1.4"
        assert cloud.header.point_format.id == 6
        assert cloud.header.parse_crs().to_epsg() == city.EPSG
        assert set(np.unique(cloud.classification)) == {1}


def test_tiles_adjoin_and_do_not_overlap(clouds):
    boxes = [shapely.box(*cloud.header.mins[:2], *cloud.header.maxs[:2]) for cloud in clouds]
    whole = shapely.union_all(boxes)
    assert sum(box.area for box in boxes) == pytest.approx(whole.area)
    assert whole.envelope.area == pytest.approx(500 * 500, rel=0.001)


def test_points_lie_on_the_true_surfaces(clouds):
    truth = city.City(1)
    roofs = shapely.union_all(truth.outlines()).buffer(0.1)
    shapely.prepare(roofs)
    for cloud in clouds:
        sample = slice(None, None, 50)
        x, y, z = (np.asarray(cloud[axis])[sample] for axis in "xyz")
        above = z - truth.terrain(x, y)
        last = np.asarray(cloud.return_number == cloud.number_of_returns)[sample]
        open_ground = ~shapely.contains_xy(roofs, x, y) & last
        assert np.median(np.abs(above[open_ground])) < 0.05
        on_roof = shapely.contains_xy(roofs.buffer(-0.3), x, y)
        assert np.mean(above[on_roof] > 2) > 0.99


def test_there_is_noise_below_and_above(clouds):
    truth = city.City(1)
    for cloud in clouds:
        above = np.asarray(cloud.z) - truth.terrain(np.asarray(cloud.x), np.asarray(cloud.y))
        assert 50 < np.sum(above < -2) < 500
        assert 50 < np.sum(above > 38) < 500


def test_buildings_of_all_kinds_stand_apart():
    buildings = plan_buildings(np.random.default_rng(1))
    assert {wing.roof for building in buildings for wing in building.wings} == {"flat", "gabled", "hipped"}
    outlines = [building.polygon for building in buildings]
    assert all(outline.geom_type == "Polygon" and outline.is_valid for outline in outlines)
    for index, neighbour in shapely.STRtree(outlines).query(outlines, predicate="intersects").T:
        assert index == neighbour
