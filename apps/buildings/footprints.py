"""Find outlines of buildings in the grid of heights: flat enough for a roof, and too dense for a tree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from osgeo import gdal, ogr
from scipy import ndimage
from shapely import affinity, wkb
from shapely.geometry import Polygon

from heights import Grid
from rectilinear import rectilinear

ogr.UseExceptions()

_ROUGH = 0.35  # metres: a ridge within 2.5 m stays below, a crown does not
_SPLIT = 0.3  # share of pulses with several returns
_SMALLEST_HOLE = 9.0  # square metres


@dataclass(frozen=True)
class Building:
    """One footprint. Polygon in CRS units; the rest in metres and square metres."""

    polygon: Polygon
    area: float
    height: float  # of the highest tenth of its cells above the ground
    ground: float  # elevation


def building_mask(grid: Grid) -> np.ndarray:
    """Cells that belong to roofs."""
    near = max(3, 2 * round(1.25 / grid.cell) + 1)  # cells: about 2.5 metres
    count, high, split = (ndimage.uniform_filter(layer, 3) for layer in (grid.count, grid.high, grid.split))
    covered = (high > 0.5 * count) & (high > 0.05)  # empty cells are not quite zero after the filter
    wide_high, wide_split = ndimage.uniform_filter(high, near), ndimage.uniform_filter(split, near)
    closed = wide_split < _SPLIT * wide_high
    roof = covered & closed & (_roughness(grid, near) < _ROUGH)
    roof = ndimage.binary_closing(roof, iterations=2) & covered
    return _closed_holes(_opened(roof, max(1, round(1.0 / grid.cell))), _SMALLEST_HOLE / grid.cell**2)


def _opened(mask: np.ndarray, radius: int) -> np.ndarray:
    """Remove parts narrower than twice the radius; other corners are kept."""
    kernel = np.ones((2 * radius + 1,) * 2, dtype=bool)
    core = ndimage.binary_erosion(mask, kernel)
    return ndimage.binary_dilation(core, kernel) & mask


def _closed_holes(mask: np.ndarray, cells: float) -> np.ndarray:
    """Fill holes of fewer cells than this: chimneys and gaps between points. Larger ones are courtyards."""
    labels, _ = ndimage.label(~mask)
    sizes = np.bincount(labels.ravel())
    return mask | (sizes < cells)[labels]


def _roughness(grid: Grid, near: int) -> np.ndarray:
    """Standard deviation of the surface from the plane that fits it best around each cell, metres.

    Least squares over the cells with high points, all sums taken at once by box filters. Coordinates are
    relative to the grid's middle, elevations to their mean, to keep the numbers small.
    """
    weight = (grid.high > 0).astype(float)
    rows, columns = np.indices(weight.shape, dtype=float)
    z = np.where(weight > 0, grid.surface - np.average(grid.surface, weights=weight + 1e-12), 0)
    x, y = (columns - columns.mean()) * grid.cell, (rows - rows.mean()) * grid.cell

    def mean(layer: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(layer * weight, near)

    n = np.maximum(mean(np.ones_like(z)), 1e-9)
    mx, my, mz = mean(x) / n, mean(y) / n, mean(z) / n
    xx, yy, xy = mean(x * x) / n - mx * mx, mean(y * y) / n - my * my, mean(x * y) / n - mx * my
    xz, yz, zz = mean(x * z) / n - mx * mz, mean(y * z) / n - my * mz, mean(z * z) / n - mz * mz
    determinant = np.maximum(xx * yy - xy * xy, 1e-6)
    along, across = (xz * yy - yz * xy) / determinant, (yz * xx - xz * xy) / determinant
    return np.sqrt(np.maximum(zz - along * xz - across * yz, 0))


def outline(mask: np.ndarray, grid: Grid, arguments: dict) -> list[Building]:
    """The buildings of the mask that are large enough, largest first."""
    labels, number = ndimage.label(mask)
    boxes = ndimage.find_objects(labels)
    found = []
    for label in range(1, number + 1):
        box = boxes[label - 1]
        cells = labels[box] == label
        if cells.sum() * grid.cell**2 < arguments["min_area"] or not grid.high[box][cells].any():
            continue
        shape = _straightened(_polygon(cells), arguments["shape"], grid.cell)
        found.append(_building(shape, cells, box, grid))
    found = [one for one in found if one.area >= arguments["min_area"]]
    return sorted(found, key=lambda one: -one.area)


def _straightened(shape: Polygon, how: str, cell: float) -> Polygon:
    """The outline without the steps of cells; courtyards are kept."""
    if how == "outline":
        return shape.simplify(0.6 / cell)
    straight = rectilinear(Polygon(shape.exterior), tolerance=1.0 / cell)
    for ring in shape.interiors:
        cut = straight.difference(rectilinear(Polygon(ring), tolerance=1.0 / cell))
        straight = cut if cut.geom_type == "Polygon" else straight
    return straight


def _building(shape: Polygon, cells: np.ndarray, box: tuple[slice, slice], grid: Grid) -> Building:
    step = grid.cell / grid.unit
    corner = (grid.left + box[1].start * step, grid.bottom + box[0].start * step)
    return Building(
        polygon=affinity.affine_transform(shape, [step, 0, 0, step, *corner]),
        area=shape.area * grid.cell**2,
        height=float(np.percentile(grid.height[box][cells & (grid.high[box] > 0)], 90)),
        ground=float(np.median(grid.terrain[box][cells]) * grid.unit),
    )


def _polygon(cells: np.ndarray) -> Polygon:
    """Outline of one patch of cells, in cells. Cells that touch only at a corner are another shape."""
    height, width = cells.shape
    raster = gdal.GetDriverByName("MEM").Create("", width, height, 1, gdal.GDT_Byte)
    raster.SetGeoTransform((0, 1, 0, 0, 0, 1))
    raster.GetRasterBand(1).WriteArray(cells.astype(np.uint8))
    source = ogr.GetDriverByName("Memory").CreateDataSource("")  # a layer is only valid as long as its source
    layer = source.CreateLayer("", geom_type=ogr.wkbPolygon)
    gdal.Polygonize(raster.GetRasterBand(1), raster.GetRasterBand(1), layer, -1)
    shapes = [wkb.loads(bytes(feature.GetGeometryRef().ExportToWkb())) for feature in layer]
    return max(shapes, key=lambda shape: shape.area)
