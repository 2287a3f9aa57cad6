"""Location and units of a point cloud, from its header."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from osgeo import osr

osr.UseExceptions()


class BadCloud(Exception):
    """This point cloud cannot be processed. The message is a sentence for the user."""


@dataclass(frozen=True)
class Cloud:
    """What the header says, in units of the CRS, each `unit` metres long. Without a CRS: metres, no WKT."""

    points: int
    left: float
    bottom: float
    right: float
    top: float
    wkt: str
    crs_name: str
    unit: float

    @property
    def area(self) -> float:
        """Square metres of the bounding box."""
        return (self.right - self.left) * (self.top - self.bottom) * self.unit**2

    def cell(self, least: float) -> float:
        """Metres: side of a square that holds about two points, but no less than `least`."""
        return float(max(least, (2 * self.area / self.points) ** 0.5))


def inspect(path: Path, *, log: Callable[[str], None]) -> Cloud:
    """Read the header. Raises BadCloud for a file that PDAL cannot read or that is in degrees."""
    done = subprocess.run(["pdal", "info", "--metadata", str(path)], capture_output=True, check=False)
    if done.returncode != 0:
        raise BadCloud(f"The point cloud cannot be read: {last_line(done.stderr)}")
    header = json.loads(done.stdout.decode(errors="replace"))["metadata"]
    wkt, name, unit = _crs(header.get("srs", {}).get("wkt") or "", header, log)
    return Cloud(
        points=header["count"],
        left=header["minx"],
        bottom=header["miny"],
        right=header["maxx"],
        top=header["maxy"],
        wkt=wkt,
        crs_name=name,
        unit=unit,
    )


def _crs(wkt: str, box: dict, log: Callable[[str], None]) -> tuple[str, str, float]:
    """WKT, name and unit. A CRS that contradicts the coordinates is ignored."""
    if not wkt:
        return "", "", 1.0
    srs = osr.SpatialReference()
    try:
        srs.ImportFromWkt(wkt)
    except RuntimeError:
        log("The file's CRS cannot be understood: coordinates are taken as metres.")
        return "", "", 1.0
    if srs.IsProjected():
        return wkt, srs.GetName(), srs.GetLinearUnits()
    if srs.IsGeographic() and abs(box["minx"]) <= 360 and abs(box["maxx"]) <= 360 and abs(box["maxy"]) <= 90:
        raise BadCloud("The coordinates are degrees. Project the points (PDAL: filters.reprojection) before.")
    log(f"The file says {srs.GetName()}, but its coordinates are not. They are taken as metres, without CRS.")
    return "", "", 1.0


def last_line(text: bytes) -> str:
    """The last line of a program's output, for a message."""
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it gives no reason."
