"""Straightens an outline made of cells: walls run along and across the building's own direction."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from shapely import affinity
from shapely.geometry import Polygon

_RECTANGLE = 0.9  # share of overlap from which on the outline is a rectangle
_LEAST_OVERLAP = 0.8


def rectilinear(shape: Polygon, *, tolerance: float) -> Polygon:
    """The outline with right angles only, or only simplified if right angles do not fit."""
    box = shape.minimum_rotated_rectangle
    # The box encloses the outermost cells, but the building has the area of all its cells.
    factor = np.sqrt(shape.area / box.area)
    shrunk = affinity.scale(box, factor, factor)
    if _overlap(shrunk, shape) > _RECTANGLE:
        return shrunk
    corners = np.array(box.exterior.coords)
    side = corners[1] - corners[0]
    angle = float(np.degrees(np.arctan2(side[1], side[0])))
    centre = shape.centroid
    turned = affinity.rotate(shape, -angle, origin=centre).simplify(tolerance)
    squared = Polygon(_square(np.array(turned.exterior.coords)[:-1]))
    result = affinity.rotate(squared, angle, origin=centre)
    return (
        result if result.is_valid and _overlap(result, shape) > _LEAST_OVERLAP else shape.simplify(tolerance)
    )


def _square(ring: np.ndarray) -> np.ndarray:
    """Corners where walls of alternating direction meet; runs of edges in one direction become one wall."""
    edges = np.roll(ring, -1, axis=0) - ring
    flat = np.abs(edges[:, 0]) >= np.abs(edges[:, 1])
    turns = np.flatnonzero(flat != np.roll(flat, 1))
    if len(turns) < 4:
        return ring
    order = np.roll(np.arange(len(ring)), -turns[0])
    walls = [list(run) for _, run in groupby(order, key=lambda edge: flat[edge])]
    middles, lengths = ring + edges / 2, np.linalg.norm(edges, axis=1)
    lines = [
        (
            bool(flat[wall[0]]),
            float(np.average(middles[wall, 1 if flat[wall[0]] else 0], weights=lengths[wall])),
        )
        for wall in walls
    ]
    return np.array(
        [
            (after, before) if is_flat else (before, after)
            for (is_flat, before), (_, after) in zip(lines, lines[1:] + lines[:1])
        ]
    )


def _overlap(one: Polygon, other: Polygon) -> float:
    """Intersection over union."""
    return one.intersection(other).area / one.union(other).area
