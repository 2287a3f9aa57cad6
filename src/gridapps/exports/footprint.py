"""The footprint of a point cloud: the convex hull of its points in x and y, computed chunk by chunk."""

from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

_MOST_CORNERS = 1_000  # of a hull; with more, the extremes in as many directions replace it
_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_DIRECTIONS = np.column_stack((np.cos(_ANGLES), np.sin(_ANGLES)))
_ALL = np.linspace(0, 2 * np.pi, _MOST_CORNERS, endpoint=False)
_MANY = np.column_stack((np.cos(_ALL), np.sin(_ALL)))


class Hull:
    """Convex hull of all points added so far."""

    def __init__(self) -> None:
        self._corners: NDArray[np.float64] = np.empty((0, 2))

    def add(self, points: NDArray[np.float64]) -> None:
        """Add an array of x, y rows, which must be finite."""
        points = np.vstack((self._corners, points))
        hull = shapely.convex_hull(shapely.multipoints(_outer(points)))
        self._corners = shapely.get_coordinates(hull)
        if len(self._corners) > _MOST_CORNERS:
            self._corners = self._corners[np.unique(np.argmax(self._corners @ _MANY.T, axis=0))]

    def polygon(self, *, margin: float) -> shapely.Polygon:
        """The hull in the units of the points. Points on a line or spot get a box that is wider by
        `margin`."""
        hull = shapely.convex_hull(shapely.multipoints(self._corners))
        if isinstance(hull, shapely.Polygon) and hull.area > 0:
            return hull
        left, bottom, right, top = (float(value) for value in shapely.bounds(hull))
        return shapely.box(left - margin, bottom - margin, right + margin, top + margin)


def _outer(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points that may be corners: those not inside the polygon of the extremes in 16 directions."""
    extremes = points[[int(np.argmax(points @ direction)) for direction in _DIRECTIONS]]
    inner = shapely.convex_hull(shapely.multipoints(extremes))
    if not isinstance(inner, shapely.Polygon):
        return points
    corners = shapely.get_coordinates(shapely.orient_polygons(inner))
    inside = np.ones(len(points), dtype=bool)
    for start, end in pairwise(corners):
        edge = end - start
        inside &= (points[:, 1] - start[1]) * edge[0] > (points[:, 0] - start[0]) * edge[1]
    return points[~inside]
