"""Finds the ground and the buildings of a point cloud: an App of the container contract, version 1.

Reads its arguments as JSON from standard input and the points from $GRID_INPUT. Writes dtm.tif,
buildings.geojson, preview.png and, if asked, classified.laz to $GRID_OUTPUT. Standard output gets a summary,
standard error the log.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import cloud
import footprints
import ground
import heights
import outputs
import points
from arguments import BadArguments, read_arguments
from cloud import BadCloud


def progress(fraction: float, message: str) -> None:
    """Report the progress to the platform."""
    print(json.dumps({"progress": fraction, "message": message}), file=sys.stderr, flush=True)


def log(line: str) -> None:
    """Write a line to the log."""
    print(line, file=sys.stderr, flush=True)


def run(arguments: dict, source: Path, target: Path, scratch: Path) -> dict:
    """Do the whole work; returns the summary."""
    progress(0.02, "reading the header")
    place = cloud.inspect(source, log=log)
    log(f"{place.points} points on {place.area / 1e4:.1f} hectares, CRS: {place.crs_name or 'none'}")
    progress(0.05, "classifying the ground")
    las = ground.classify(source, scratch, place, arguments)
    counts = points.class_counts(las)
    log(f"ground: {counts[2]} points, noise: {counts[7]} points")
    if counts[2] < 3:
        raise BadCloud("No ground was found. Try a larger ground_threshold or ground_slope.")
    progress(0.65, "modelling the terrain")
    dtm = target / "dtm.tif"
    ground.terrain_model(las, dtm, place, metres=arguments["resolution"])
    progress(0.75, "looking for buildings")
    grid = heights.measure(las, dtm, scratch, place, arguments)
    mask = footprints.building_mask(grid)
    found = footprints.outline(mask, grid, arguments)
    log(f"buildings: {len(found)}")
    progress(0.92, "writing")
    outputs.write_geojson(target / "buildings.geojson", found, place)
    outputs.write_preview(target / "preview.png", dtm, found)
    if arguments["classified"]:
        ground.write_classified(las, target / "classified.laz", lambda x, y: grid.at(mask, x, y))
    progress(1.0, "done")
    return {
        "points": place.points,
        "ground_points": counts[2],
        "noise_points": counts[7],
        "buildings": len(found),
        "built_area_m2": round(sum(one.area for one in found), 1),
        "crs": place.crs_name,
    }


def main() -> int:
    """Exit code: 0 for success, 2 for bad arguments, 3 for a point cloud that cannot be processed."""
    try:
        arguments = read_arguments(sys.stdin.buffer.read())
        source, target = Path(os.environ["GRID_INPUT"]), Path(os.environ["GRID_OUTPUT"])
        with tempfile.TemporaryDirectory() as scratch:
            summary = run(arguments, source, target, Path(scratch))
    except BadArguments as error:
        log(f"Bad arguments: {error}")
        return 2
    except BadCloud as error:
        log(str(error))
        return 3
    print(json.dumps(summary, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
