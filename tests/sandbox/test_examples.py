"""The examples of docs/bring-your-program.md, built and run. They take downloads: for `make soak`."""

import subprocess
from pathlib import Path

import laspy
import numpy as np
import pyproj
import pytest

from gridapps.sandbox.protocol import Limits
from tests.fixtures.engine import Engine
from tests.sandbox.conftest import MIB, Bench

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]
EXAMPLES = Path(__file__).parents[2] / "apps" / "examples"
OUTPUTS = {
    "csf": "ground.laz", "jakteristics": "features.laz", "whitebox": "dsm.tif",
    "py3dtiles": "tiles/tileset.json", "pdal": "dtm.tif", "open3d": "planes.json", "pytorch": "model.pt",
    "raster": "dsm.tif", "node": "header.json", "java": "points.txt",
}  # fmt: skip
LIMITS = Limits(cpus=1, memory=2048 * MIB, disk=512 * MIB)


def write_house(path: Path, *, points: int = 20_000) -> Path:
    """Write a LAZ file: a slope of 100 m in UTM coordinates, and on it a flat roof."""
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = np.full(3, 0.01), np.array([500_000.0, 5_400_000.0, 0.0])
    header.add_crs(pyproj.CRS.from_epsg(25832))
    cloud = laspy.LasData(header)
    random = np.random.default_rng(1)
    east, north = random.uniform(0, 100, (2, points))
    roof = (abs(east - 50) < 10) & (abs(north - 50) < 10)
    cloud.x, cloud.y = east + 500_000, north + 5_400_000
    cloud.z = east / 20 + random.normal(0, 0.02, points) + 8 * roof
    cloud.return_number = cloud.number_of_returns = np.ones(points, dtype=np.uint8)
    cloud.write(path)
    return path


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_example_does_what_the_page_says(bench: Bench, engine: Engine, tmp_path: Path, name: str) -> None:
    built = subprocess.run([EXAMPLES / "build", name], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert engine.client.inspect_image(built.stdout.strip())
    file = write_house(tmp_path / "cloud.laz")
    launch = bench.launch(built.stdout.strip(), arguments=b"{}", input=file, limits=LIMITS)
    bench.sandbox.start(launch)
    ended = bench.sandbox.wait(launch.name, timeout=1800)
    assert ended is not None
    assert ended.exit_code == 0, bench.log(launch.name)
    assert (bench.outputs(launch.name) / OUTPUTS[name]).stat().st_size > 0


def test_every_example_is_tried() -> None:
    assert {each.name for each in EXAMPLES.iterdir() if each.is_dir()} == set(OUTPUTS)
