"""The picture shows what the outputs hold, where it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio  # type: ignore[import-untyped]
from matplotlib import image
from rasterio.transform import from_origin  # type: ignore[import-untyped]

from demo import picture


def write_outputs(directory: Path, left: float, *, houses: int) -> None:
    """A terrain model of 100 x 100 m with houses of 20 x 20 m in its middle, without a CRS."""
    directory.mkdir(parents=True)
    profile = {
        "driver": "GTiff",
        "width": 100,
        "height": 100,
        "count": 1,
        "dtype": "float32",
        "nodata": -9999,
    }
    with rasterio.open(
        directory / "dtm.tif", "w", **profile, transform=from_origin(left, 100, 1, 1)
    ) as raster:
        raster.write(np.add.outer(np.arange(100), np.arange(100)).astype(np.float32) / 50, 1)
    corners = [[left + x, y] for x, y in ((40, 40), (60, 40), (60, 60), (40, 60), (40, 40))]
    house = {
        "type": "Feature",
        "properties": {"height_m": 20.0},
        "geometry": {"type": "Polygon", "coordinates": [corners]},
    }
    collection = {"type": "FeatureCollection", "features": [house] * houses}
    (directory / "buildings.geojson").write_text(json.dumps(collection))


def test_a_building_is_where_it_is_and_nowhere_else(tmp_path):
    """Of two tiles side by side, the left one with a house and the right one without."""
    write_outputs(tmp_path / "outputs" / "0", 0, houses=1)
    write_outputs(tmp_path / "outputs" / "1", 100, houses=0)
    picture.draw(tmp_path / "outputs", tmp_path / "map.png", pixels=500)
    pixels = image.imread(tmp_path / "map.png")[..., :3]
    assert pixels.shape == (500, 500, 3)
    dark_red = (pixels[..., 0] - pixels[..., 1] > 0.2) & (pixels.sum(axis=2) < 1.2)
    rows, columns = np.nonzero(dark_red[:440])  # below are the colours' meaning
    assert len(rows) > 500
    assert columns.max() < 250
    assert np.mean(columns) == pytest.approx(0.02 * 500 + 0.96 * 500 / 4, abs=10)


def test_without_outputs_it_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "demo.picture", str(tmp_path), str(tmp_path / "map.png")],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "fetch the outputs of a run of buildings first" in done.stderr
    assert not (tmp_path / "map.png").exists()
