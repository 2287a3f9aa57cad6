"""A delivery that the operator imports by command, and what its owner reads about the files."""

import subprocess
from pathlib import Path

import laspy
import pyproj
import pytest

from tests.client.conftest import Bench
from tests.exports import odd_files
from tests.fixtures import commands
from tests.fixtures.pointclouds import write_pointcloud

pytestmark = pytest.mark.system


def imported(bench: Bench, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`gridapps-server import WORDS` for the developer."""
    owner = ("--owner", bench.shell.name, "--name", "Delivery")
    environment = bench.shell.instance.environment
    return commands.run("gridapps-server", "import", *map(str, words), *owner, environment=environment)


@pytest.fixture
def delivery(bench: Bench, tmp_path: Path) -> list[Path]:
    """A good tile, an empty file, one with false bounds, and a tile in UTM."""
    good, false, utm = (tmp_path / f"{name}.las" for name in ("good", "false", "utm"))
    write_pointcloud(good, points=300)
    false.write_bytes(odd_files.bounds(9999.0))
    cloud = laspy.read(write_pointcloud(tmp_path / "plain.laz", points=70, east=500_000))
    cloud.header.add_crs(pyproj.CRS.from_epsg(25832))
    cloud.write(utm)
    (tmp_path / "empty.laz").touch()
    return [good, tmp_path / "empty.laz", false, utm]


def test_a_delivery_with_a_bad_tile(bench: Bench, delivery: list[Path]) -> None:
    refused = imported(bench, *delivery)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "empty.laz: The file is empty." in refused.stderr
    before = bench.shell.must("exports").out
    assert "Delivery" not in before

    taken = imported(bench, *delivery, "--skip-bad")
    assert taken.returncode == 0
    assert taken.stderr == "Left out: empty.laz: The file is empty.\n"
    remark, last = taken.stdout.splitlines()
    assert remark.startswith("false.las: The bounds in the header are wrong: x from ")
    export = last.partition(":")[0].removeprefix("Export ")
    assert last == f"Export {export}: 3 files, {300 + odd_files.POINTS + 70} points. 1 left out."
    _assert_shown(bench, export, remark)


def _assert_shown(bench: Bench, export: str, remark: str) -> None:
    head, columns, *rows, shown_remark = bench.shell.must("exports", "show", export).out.splitlines()
    assert head.startswith(f"{export}: Delivery, owner {bench.shell.name}, ")
    assert columns.split() == ["PK", "NAME", "POINTS", "SIZE", "CRS"]
    cells = [dict(zip(columns.split(), row.split(maxsplit=5), strict=False)) for row in rows]
    assert [(row["NAME"], row["POINTS"]) for row in cells] == [
        ("good.las", "300"), ("false.las", str(odd_files.POINTS)), ("utm.las", "70"),
    ]  # fmt: skip
    at = columns.index("CRS")
    assert [row[at:] for row in rows] == ["-", "-", "EPSG:25832 ETRS89 / UTM zone 32N"]
    assert shown_remark == remark
    [described] = bench.shell.must("exports", "show", export, "--json").json["exports"]
    files = {file["name"]: file for file in described["exportfiles"]}
    assert [f"false.las: {text}" for text in files["false.las"]["remarks"]] == [remark]
    assert files["good.las"]["remarks"] == []
    assert (files["utm.las"]["crs_code"], files["good.las"]["crs_code"]) == ("EPSG:25832", "")


def test_links_are_followed_on_request(bench: Bench, delivery: list[Path], tmp_path: Path) -> None:
    link = tmp_path / "links" / "tile.las"
    link.parent.mkdir()
    link.symlink_to(delivery[0])
    refused = imported(bench, link)
    assert refused.returncode == 1
    assert "tile.las: This is a symbolic link." in refused.stderr
    assert "--follow" in refused.stderr
    left_out = imported(bench, link, delivery[3], "--skip-bad")
    assert "Left out: tile.las: This is a symbolic link." in left_out.stderr
    taken = imported(bench, link, "--follow")
    assert taken.returncode == 0, taken.stderr
    export = taken.stdout.partition(":")[0].removeprefix("Export ")
    assert "tile.las" in bench.shell.must("exports", "show", export).out
    run = bench.shell.run("run", bench.app, "--export", export, "-a", "do=write")
    assert run.status == 0, run.err
