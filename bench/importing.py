"""What importing many tiles costs beside reading their points. `python -m bench.importing [TILES]`

Imports small tiles with different contents into an empty SQLite instance; the time is that of the import and
its readers together. The time that laspy takes for the same tiles is shown and subtracted. Exits with 1 when
the target is missed.
"""

import os
import resource
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import django
import laspy
import numpy as np
import pyproj

POINTS = 10_000  # of a tile
TARGET_MS = 20.0  # of processor time for each tile beside its points


def main() -> int:
    """Print the measurement."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as directory:
        os.environ["GRIDAPPS_DATA"] = directory
        (Path(directory) / "database").mkdir()
        os.environ["DJANGO_SETTINGS_MODULE"] = "gridapps.config.settings"
        django.setup()
        return 0 if _measure(_tiles(Path(directory), count)) else 1


def _measure(tiles: list[Path]) -> bool:
    """Print the measurement; whether it meets the target."""
    from django.core.management import call_command

    from bench.measures import Measured  # reads the settings
    from bench.table import table
    from gridapps.access.models import User
    from gridapps.exports import operations

    call_command("migrate", verbosity=0)
    owner = User.objects.create(username="owner")
    ours = _milliseconds(lambda: operations.import_export(owner=owner, name="city", files=tiles), len(tiles))
    theirs = _milliseconds(lambda: _read(tiles), len(tiles))
    row = Measured(
        name=f"import of {len(tiles)} tiles, processor time of each",
        ours=f"{ours:.1f} ms",
        theirs=f"{theirs:.1f} ms (laspy.read)",
        target=f"{TARGET_MS:.0f} ms beside reading",
        holds=ours - theirs < TARGET_MS,
    )
    print(table([row]))
    return bool(row.holds)


def _read(tiles: list[Path]) -> None:
    for tile in tiles:
        laspy.read(tile)


def _milliseconds(act: Callable[[], object], times: int) -> float:
    """Processor time of this process and of those that ended below it, for one of `times`."""
    begun = _used()
    act()
    return (_used() - begun) * 1000 / times


def _used() -> float:
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in found)


def _tiles(directory: Path, count: int) -> list[Path]:
    """Tiles that differ in one field of their headers."""
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.scales, header.offsets = np.full(3, 0.01), np.array([500_000, 5_400_000, 0])
    header.add_crs(pyproj.CRS.from_epsg(25832))
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = header.offsets[:, None] + np.random.default_rng(1).random((3, POINTS)) * 100
    first = directory / "first.laz"
    cloud.write(first)
    content = bytearray(first.read_bytes())
    tiles = []
    for number in range(count):
        struct.pack_into("<H", content, 4, number)
        tiles.append(directory / f"{number}.laz")
        tiles[-1].write_bytes(content)
    return tiles


if __name__ == "__main__":
    sys.exit(main())
