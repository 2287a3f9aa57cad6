"""Measuring a point-cloud file, by reading all of it in a process with limits."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridapps.exports import headers
from gridapps.exports.headers import BadPointCloud

_BASE_SECONDS = 8.0
_BYTES_PER_SECOND = 1_000_000  # a tenth of what one processor decodes
_PATIENCE = 10  # seconds of wall-clock time for each of processor time
_TOO_LONG = (
    "The file could not be read in {:.0f} s of processor time, far more than a file of its size takes."
)
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",  # each thread's stack counts against the memory limit
    "PROJ_NETWORK": "OFF",
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts of one file. Coordinates are in the file's own CRS and units."""

    las_version: str
    point_format: int
    points: int
    bounds: list[float]  # minx, miny, minz, maxx, maxy, maxz, of the points, not of the header
    crs: str  # WKT 2, or ""
    crs_name: str
    footprint: bytes  # WKB polygon


def measure(path: Path) -> Facts:
    """Check the header, then read every point. Raises BadPointCloud.

    Takes at most 8 s of processor time plus 1 s for each MB, and at most ten times that of wall-clock time.
    """
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        header = headers.read(file, size=size)
        found = _read(file, seconds=_BASE_SECONDS + size / _BYTES_PER_SECOND)
    finally:
        os.close(file)
    _check_against_header(header, found["bounds"])
    return Facts(
        las_version=header.version,
        point_format=header.point_format,
        points=found["points"],
        bounds=found["bounds"],
        crs=found["crs"],
        crs_name=found["crs_name"],
        footprint=bytes.fromhex(found["footprint"]),
    )


def _read(file: int, *, seconds: float) -> dict[str, Any]:
    """The answer of the reader. If it ends without one, the file is at fault."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "gridapps.exports.reader", f"{math.ceil(seconds)}"],
            stdin=file,
            capture_output=True,
            timeout=seconds * _PATIENCE,
            env=_ENVIRONMENT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadPointCloud(_TOO_LONG.format(seconds)) from None
    if done.returncode == -signal.SIGXCPU:
        raise BadPointCloud(_TOO_LONG.format(seconds))
    if done.returncode != 0 or not done.stdout:
        raise BadPointCloud(
            f"The program that reads points failed with exit code {done.returncode}: the file is damaged, "
            "or needs more than 1 GB of memory."
        )
    answer = json.loads(done.stdout)
    if "bad" in answer:
        raise BadPointCloud(answer["bad"])
    return dict(answer)


def _check_against_header(header: headers.Header, bounds: list[float]) -> None:
    """Damaged LAZ data often decodes to points far away. Small differences are common and harmless."""
    for axis, name in enumerate("xyz"):
        low, high = header.mins[axis], header.maxs[axis]
        slack = high - low
        if slack > 0 and not (low - slack <= bounds[axis] and bounds[axis + 3] <= high + slack):
            raise BadPointCloud(
                f"The points reach from {bounds[axis]:g} to {bounds[axis + 3]:g} in {name}, but the header "
                f"says {low:g} to {high:g}: the points or the header are damaged."
            )
