"""Ground and noise by PDAL: the classes of the points, and a terrain model from a mesh of the ground."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

import points
from cloud import BadCloud, Cloud, last_line

_MOST_CELLS = 40_000_000  # a gigabyte of memory in PDAL
_NO_CRS = 'LOCAL_CS["unknown",UNIT["metre",1]]'
NODATA = -9999.0


def classify(source: Path, scratch: Path, place: Cloud, arguments: dict) -> Path:
    """Classify noise (7) and ground (2) into an uncompressed LAS 1.4 file of format 6, and return its path.

    SMRF: Pingel, Clarke, McBride 2013. Points below the ground would pull it down, so noise is marked first.
    """
    target = scratch / "classified.las"
    metre = 1 / place.unit
    cell = place.cell(1.0) * metre
    _pipeline(
        str(source),
        {"type": "filters.assign", "assignment": "Classification[:]=0"},
        {"type": "filters.elm", "cell": 8 * metre, "threshold": metre},
        {"type": "filters.outlier", "method": "statistical", "mean_k": 8, "multiplier": 4},
        {
            "type": "filters.smrf",
            "ignore": "Classification[7:7]",
            "cell": cell,
            "slope": arguments["ground_slope"],
            "window": max(cell, arguments["ground_window"] * metre),
            "threshold": arguments["ground_threshold"] * metre,
        },
        {
            "type": "writers.las",
            "filename": str(target),
            "minor_version": 4,
            "dataformat_id": 6,
            "forward": "scale,offset",
            "a_srs": place.wkt or _NO_CRS,
        },
    )
    return target


def terrain_model(las: Path, target: Path, place: Cloud, *, metres: float) -> None:
    """Triangulate the ground and write it as a GeoTIFF with square cells of this size."""
    cell = metres / place.unit
    cells = place.area / metres**2
    if cells > _MOST_CELLS:
        enough = math.ceil(metres * math.sqrt(cells / _MOST_CELLS) * 10) / 10
        raise BadCloud(
            f"The terrain model would have {cells / 1e6:.0f} million cells, and "
            f"{_MOST_CELLS / 1e6:.0f} million are the most. Choose a resolution of {enough} or more."
        )
    _pipeline(
        str(las),
        {"type": "filters.range", "limits": "Classification[2:2]"},
        {"type": "filters.delaunay"},
        {"type": "filters.faceraster", "resolution": cell, **_frame(place, cell)},
        {
            "type": "writers.raster",
            "filename": str(target),
            "gdaldriver": "GTiff",
            "gdalopts": "COMPRESS=DEFLATE,PREDICTOR=3,TILED=YES",
            "data_type": "float32",
            "nodata": NODATA,
        },
    )


def _frame(place: Cloud, cell: float) -> dict:
    """A grid whose lines are multiples of the cell, so that the models of neighbouring files fit together."""
    first_x, first_y = np.floor(place.left / cell), np.floor(place.bottom / cell)
    return {
        "origin_x": float(first_x * cell),
        "origin_y": float(first_y * cell),
        "width": int(np.ceil(place.right / cell) - first_x),
        "height": int(np.ceil(place.top / cell) - first_y),
    }


def write_classified(las: Path, target: Path, on_building: Callable) -> None:
    """Classify the points of buildings above the ground as 6, and write all points as LAZ."""
    records = points.records(las, mode="r+")
    for part, x, y, _ in points.chunks(las):
        classes = records["classification"][part]
        records["classification"][part] = np.where((classes <= 1) & on_building(x, y), 6, classes)
    records.flush()
    writer = {"type": "writers.las", "filename": str(target), "compression": "laszip", "forward": "all"}
    _pipeline(str(las), writer)


def _pipeline(*stages: object) -> None:
    """Run PDAL. If it fails, its last output is the reason."""
    done = subprocess.run(
        ["pdal", "pipeline", "--stdin"], input=json.dumps(stages).encode(), capture_output=True, check=False
    )
    if done.returncode < 0:
        raise BadCloud(f"PDAL was ended by signal {-done.returncode}. Most often: ask for more memory.")
    if done.returncode != 0:
        raise BadCloud(f"PDAL failed: {last_line(done.stderr)}")
