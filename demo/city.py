"""Write the synthetic city of the demonstration: four adjoining LAZ 1.4 files, as from an airborne scanner.

The same seed gives the same bytes. All points are classified 1 (unclassified): to find ground and buildings
is the App's work. `python -m demo.city DIRECTORY` writes the files and prints a line for each.
"""

import argparse
import sys
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import laspy
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from demo.layout import SIDE, Building, Tree, plan_buildings, plan_trees, street_distance, terrain

EPSG = 32633
ORIGIN = (389_500.0, 5_819_000.0)  # of the city's own frame, in the CRS
TILES = 2  # in each direction
_TILE = SIDE / TILES
_DENSITY = 9.0  # pulses per square metre
_NOISE = 0.00025  # share of pulses that end below the ground, and again above everything

Array = NDArray[np.float64]


@dataclass(frozen=True)
class City:
    """The plan of one city. Coordinates of its methods are in the CRS."""

    seed: int = 1
    buildings: list[Building] = field(init=False)
    trees: list[Tree] = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        buildings = plan_buildings(random)
        object.__setattr__(self, "buildings", buildings)
        object.__setattr__(self, "trees", plan_trees(random, buildings, number=1500))

    def terrain(self, x: Array, y: Array) -> Array:
        """True elevation of the ground, metres."""
        return terrain(x - ORIGIN[0], y - ORIGIN[1])

    def outlines(self) -> list[BaseGeometry]:
        """True outlines of the buildings."""
        return [
            shapely.transform(building.polygon, lambda corners: corners + ORIGIN)
            for building in self.buildings
        ]


@dataclass
class _Pulses:
    """The returns of a tile's pulses, in the city's frame, ordered by y so that a stripe is a slice."""

    x: Array
    y: Array
    z: Array
    returns: NDArray[np.uint8]  # of the pulse that the point belongs to
    number: NDArray[np.uint8]
    intensity: NDArray[np.uint16]

    def stripe(self, low: float, high: float) -> slice:
        """The points with y between the two."""
        return slice(*np.searchsorted(self.y, (low, high)))


def write(directory: Path, *, seed: int = 1) -> list[Path]:
    """Write the four tiles of the city into `directory`, which is created if it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    city = City(seed)
    paths = []
    for row in range(TILES):
        for column in range(TILES):
            path = directory / f"city-{row * TILES + column + 1}.laz"
            _write_tile(path, _tile(city, column, row), seconds=1000.0 + (row * TILES + column) * 100)
            paths.append(path)
    return paths


def _tile(city: City, column: int, row: int) -> _Pulses:
    random = np.random.default_rng([city.seed, column, row])
    left, bottom = column * _TILE, row * _TILE
    pulses = _scan(random, left, bottom)
    for tree in city.trees:
        _hit_tree(random, pulses, tree)
    for building in city.buildings:
        _hit_building(random, pulses, building)
    pulses = _with_ground_below_trees(random, pulses)
    _add_noise(random, pulses)
    return pulses


def _scan(random: np.random.Generator, left: float, bottom: float) -> _Pulses:
    """A jittered grid of pulses on the bare ground."""
    side = round(_TILE * np.sqrt(_DENSITY))
    step = _TILE / side
    rows, columns = np.divmod(np.arange(side * side), side)
    # Slightly inside the tile, because neighbours must not share points.
    x = left + np.clip((columns + random.random(side * side)) * step, 0.01, _TILE - 0.01)
    y = bottom + np.clip((rows + random.random(side * side)) * step, 0.01, _TILE - 0.01)
    order = np.argsort(y, kind="stable")
    x, y = x[order], y[order]
    z = terrain(x, y) + random.normal(0, 0.03, len(x))
    on_street = street_distance(x, y) < 0
    intensity = np.where(on_street, 9_000, 24_000) + random.integers(0, 4000, len(x))
    one = np.ones(len(x), dtype=np.uint8)
    return _Pulses(x, y, z, one, one.copy(), intensity.astype(np.uint16))


def _hit_tree(random: np.random.Generator, pulses: _Pulses, tree: Tree) -> None:
    """Most pulses end somewhere in the crown, the others reach the ground. The higher crown counts."""
    part = pulses.stripe(tree.y - tree.radius, tree.y + tree.radius)
    far = np.hypot(pulses.x[part] - tree.x, pulses.y[part] - tree.y) / tree.radius
    hit = np.flatnonzero((far < 1) & (random.random(len(far)) < 0.8)) + part.start
    far = far[hit - part.start]
    crown = tree.top - tree.depth / 2 + tree.depth / 2 * np.sqrt(1 - far**2)
    z = crown - random.gamma(1.5, 0.35, len(hit))
    hit, z = hit[z > pulses.z[hit] + 0.5], z[z > pulses.z[hit] + 0.5]
    pulses.z[hit] = z
    pulses.returns[hit] = np.where(random.random(len(hit)) < 0.6, 2, 1)
    pulses.intensity[hit] = 14_000 + random.integers(0, 9000, len(hit))


def _hit_building(random: np.random.Generator, pulses: _Pulses, building: Building) -> None:
    left, bottom, right, top = building.polygon.bounds
    part = pulses.stripe(bottom, top)
    near = np.flatnonzero((pulses.x[part] >= left) & (pulses.x[part] <= right)) + part.start
    if not len(near):
        return
    x, y = pulses.x[near], pulses.y[near]
    # If wings overlap, the higher roof counts.
    roof = np.fmax.reduce([wing.surface(x, y) for wing in building.wings])
    hit = near[np.isfinite(roof)]
    pulses.z[hit] = roof[np.isfinite(roof)] + random.normal(0, 0.03, len(hit))
    pulses.returns[hit] = 1
    pulses.intensity[hit] = 30_000 + random.integers(0, 6000, len(hit))


def _with_ground_below_trees(random: np.random.Generator, pulses: _Pulses) -> _Pulses:
    """Add the second return of pulses that have two; it is on the ground."""
    first = np.flatnonzero(pulses.returns == 2)
    x, y = pulses.x[first], pulses.y[first]
    z = terrain(x, y) + random.normal(0, 0.05, len(first))
    two = np.full(len(first), 2, dtype=np.uint8)
    at = first + 1
    return _Pulses(
        np.insert(pulses.x, at, x),
        np.insert(pulses.y, at, y),
        np.insert(pulses.z, at, z),
        np.insert(pulses.returns, at, two),
        np.insert(pulses.number, at, two),
        np.insert(pulses.intensity, at, np.uint16(7000)),
    )


def _add_noise(random: np.random.Generator, pulses: _Pulses) -> None:
    """Echoes from below the ground (multiple reflection) and from birds and clouds."""
    number = round(len(pulses.x) * _NOISE)
    single = np.flatnonzero(pulses.returns == 1)
    low, high = random.choice(single, (2, number), replace=False)
    pulses.z[low] -= random.uniform(3, 25, number)
    pulses.z[high] += random.uniform(40, 180, number)


def _write_tile(path: Path, pulses: _Pulses, *, seconds: float) -> None:
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.creation_date = date(2026, 1, 1)  # laspy would write the current date, and the bytes would differ
    header.generating_software = "gridapps demo city"
    header.scales, header.offsets = [0.01] * 3, [*ORIGIN, 0]
    header.add_crs(CRS.from_epsg(EPSG))
    cloud = laspy.LasData(header, laspy.ScaleAwarePointRecord.zeros(len(pulses.x), header=header))
    cloud.x, cloud.y, cloud.z = pulses.x + ORIGIN[0], pulses.y + ORIGIN[1], pulses.z
    cloud.intensity = pulses.intensity
    cloud.return_number, cloud.number_of_returns = pulses.number, pulses.returns
    cloud.classification = np.ones(len(pulses.x), dtype=np.uint8)
    cloud.gps_time = seconds + np.arange(len(pulses.x)) * 4e-6
    cloud.write(path, laz_backend=laspy.LazBackend.LazrsParallel)


def main() -> None:
    """Entry point of `python -m demo.city`."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.city", description="Write a synthetic city as LAZ files."
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="another number, another city (default 1)")
    chosen = parser.parse_args()
    try:
        paths = write(chosen.directory, seed=chosen.seed)
    except OSError as error:
        sys.exit(f"The city cannot be written to {chosen.directory}: {error.strerror}.")
    for path in paths:
        with laspy.open(path) as file:
            print(f"{path}  {file.header.point_count:,} points  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
