"""A grid of the points above the ground: counts of high points and of split pulses, and their heights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from osgeo import gdal
from scipy import ndimage

import ground
import points
from cloud import Cloud

gdal.UseExceptions()


@dataclass
class Grid:
    """Cells from the lower left corner on, row 0 at the bottom. `cell` and heights are in metres.

    Places and the terrain are in units of the CRS, `unit` metres each.
    """

    left: float
    bottom: float
    cell: float
    unit: float
    terrain: np.ndarray  # elevation in CRS units
    count: np.ndarray  # points
    high: np.ndarray  # points higher than min_height
    split: np.ndarray  # of those: from pulses with more than one return
    height: np.ndarray  # mean height of the high ones above the ground, metres
    surface: np.ndarray  # mean elevation of the high ones, metres

    def place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of points."""
        step = self.cell / self.unit
        rows, columns = ((y - self.bottom) / step).astype(int), ((x - self.left) / step).astype(int)
        return np.clip(rows, 0, self.count.shape[0] - 1), np.clip(columns, 0, self.count.shape[1] - 1)

    def at(self, mask: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Value of the mask at points."""
        return mask[self.place(x, y)]


def measure(las: Path, dtm: Path, scratch: Path, place: Cloud, arguments: dict) -> Grid:
    """Sort the points into cells that hold about two points each, 0.5 metres wide or more."""
    cell = place.cell(0.5)
    if cell < arguments["resolution"]:
        dtm = scratch / "fine.tif"
        ground.terrain_model(las, dtm, place, metres=cell)
    step = cell / place.unit
    shape = (int((place.top - place.bottom) / step) + 1, int((place.right - place.left) / step) + 1)
    terrain = _resample(dtm, place.left, place.bottom, step, shape)
    zero = np.zeros(shape)
    grid = Grid(place.left, place.bottom, cell, place.unit, terrain, *(zero.copy() for _ in range(5)))
    table = points.records(las)
    for part, *xyz in points.chunks(las):
        _add(grid, table[part], xyz, arguments["min_height"])
    for total in (grid.height, grid.surface):
        np.divide(total, grid.high, out=total, where=grid.high > 0)
    return grid


def _add(grid: Grid, records: np.ndarray, xyz: list[np.ndarray], min_height: float) -> None:
    """Add points to the sums of the grid, without noise."""
    x, y, z = xyz
    rows, columns = grid.place(x, y)
    height = (z - grid.terrain[rows, columns]) * grid.unit
    index, size = rows * grid.count.shape[1] + columns, grid.count.size
    real = (records["classification"] != 7) & np.isfinite(height)
    high = real & (height > min_height)
    split = high & (records["returns"] >> 4 > 1)
    for total, chosen, weights in (
        (grid.count, real, None),
        (grid.high, high, None),
        (grid.split, split, None),
        (grid.height, high, height),
        (grid.surface, high, z * grid.unit),
    ):
        per_cell = np.bincount(index[chosen], None if weights is None else weights[chosen], size)
        np.add(total, per_cell.reshape(total.shape), out=total)


def _resample(dtm: Path, left: float, bottom: float, step: float, shape: tuple[int, int]) -> np.ndarray:
    """Terrain at the middle of each cell; outside the model its nearest value."""
    raster = gdal.Open(str(dtm))
    origin_x, width, _, origin_y, _, height = raster.GetGeoTransform()
    elevations = raster.ReadAsArray().astype(np.float64)
    empty = elevations == ground.NODATA
    if empty.any():
        nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
        elevations = elevations[tuple(nearest)]
    middle_y = (bottom + (np.arange(shape[0]) + 0.5) * step - origin_y) / height - 0.5
    middle_x = (left + (np.arange(shape[1]) + 0.5) * step - origin_x) / width - 0.5
    rows, columns = np.meshgrid(middle_y, middle_x, indexing="ij")
    return ndimage.map_coordinates(elevations, (rows, columns), order=1, mode="nearest")
