"""The examples of docs/bring-your-program.md, built and run. They take downloads: for `make soak`."""

import subprocess
from pathlib import Path

import pytest

from gridapps.sandbox.protocol import Limits
from tests.fixtures.engine import Engine
from tests.fixtures.pointclouds import write_pointcloud
from tests.sandbox.conftest import MIB, Bench

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]
EXAMPLES = Path(__file__).parents[2] / "apps" / "examples"
OUTPUTS = {
    "csf": "ground.laz", "jakteristics": "features.laz", "whitebox": "dsm.tif",
    "py3dtiles": "tiles/tileset.json", "pdal": "dtm.tif", "open3d": "planes.json", "pytorch": "model.pt",
    "node": "header.json", "java": "points.txt",
}  # fmt: skip
LIMITS = Limits(cpus=1, memory=2048 * MIB, disk=512 * MIB)


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_example_does_what_the_page_says(bench: Bench, engine: Engine, tmp_path: Path, name: str) -> None:
    built = subprocess.run([EXAMPLES / "build", name], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert engine.client.inspect_image(built.stdout.strip())
    file = write_pointcloud(tmp_path / "cloud.laz", points=20_000)
    launch = bench.launch(built.stdout.strip(), arguments=b"{}", input=file, limits=LIMITS)
    bench.sandbox.start(launch)
    ended = bench.sandbox.wait(launch.name, timeout=1800)
    assert ended is not None
    assert ended.exit_code == 0, bench.log(launch.name)
    assert (bench.outputs(launch.name) / OUTPUTS[name]).stat().st_size > 0
