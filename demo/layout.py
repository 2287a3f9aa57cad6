"""The plan of the synthetic city, the ground truth for measuring Apps.

Lengths are in metres, positions in the city's own frame with (0, 0) in its south-west corner.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

Array = NDArray[np.float64]
Numbers = Array | float  # one position or many

SIDE = 500.0  # the city is a square
PARK = (345.0, 150.0)  # a hill with trees and no houses
_TURN = 0.21  # streets do not run north to south
_PITCH = (74.0, 58.0)  # from block to block
_STREET = 12.0


@dataclass(frozen=True)
class Wing:
    """A rectangular part of a building with a roof of its own."""

    x: float
    y: float
    length: float
    width: float
    angle: float  # of the long side, radians
    eaves: float  # elevation of the roof's edge
    roof: Literal["flat", "gabled", "hipped"]

    def local(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Coordinates along and across the wing, from its middle."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (x - self.x) * cos + (y - self.y) * sin, (y - self.y) * cos - (x - self.x) * sin

    def surface(self, x: Array, y: Array) -> Array:
        """Elevation of the roof, NaN beside it."""
        along, across = self.local(x, y)
        to_side = self.width / 2 - np.abs(across)
        to_end = self.length / 2 - np.abs(along)
        inside = (to_side >= 0) & (to_end >= 0)
        rise = {"flat": 0 * to_side, "gabled": 0.7 * to_side, "hipped": 0.7 * np.minimum(to_side, to_end)}
        return np.where(inside, self.eaves + rise[self.roof], np.nan)

    @cached_property
    def polygon(self) -> shapely.Polygon:
        """Outline of the wing."""
        box = shapely.box(-self.length / 2, -self.width / 2, self.length / 2, self.width / 2)
        corners = shapely.get_coordinates(box)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = corners @ np.array([[cos, sin], [-sin, cos]]) + [self.x, self.y]
        return shapely.Polygon(turned)


@dataclass(frozen=True)
class Building:
    """One or more wings that touch."""

    wings: tuple[Wing, ...]

    @cached_property
    def polygon(self) -> BaseGeometry:
        """Outline of the whole building."""
        return shapely.union_all([wing.polygon for wing in self.wings])


@dataclass(frozen=True)
class Tree:
    """An ellipsoid crown on a stem."""

    x: float
    y: float
    radius: float
    top: float  # elevation
    depth: float  # from the top of the crown to its bottom


def terrain(x: Numbers, y: Numbers) -> Array:
    """Elevation of the bare ground: rolling, with a hill in the park and a creek across the city."""
    rolling = 5.0 * np.sin(x / 95 + 0.6) * np.cos(y / 120 - 0.4) + 2.5 * np.sin((x + 2 * y) / 70)
    hill = 15.0 * np.exp(-((x - PARK[0]) ** 2 + (y - PARK[1]) ** 2) / (2 * 34.0**2))
    creek = -3.0 * np.exp(-((y - creek_line(x)) ** 2) / (2 * 6.0**2))
    return np.asarray(112.0 + 0.018 * x + rolling + hill + creek)


def creek_line(x: Numbers) -> Array:
    """Where the creek runs: its y for each x."""
    return np.asarray(395 + 28 * np.sin(x / 62) + 0.1 * x)


def street_distance(x: Array, y: Array) -> Array:
    """Distance to the edge of the nearest street; negative on it."""
    u, v = _to_streets(x, y)
    du = np.abs((u + _PITCH[0] / 2) % _PITCH[0] - _PITCH[0] / 2)
    dv = np.abs((v + _PITCH[1] / 2) % _PITCH[1] - _PITCH[1] / 2)
    return np.minimum(du, dv) - _STREET / 2


def _to_streets(x: Array, y: Array) -> tuple[Array, Array]:
    cos, sin = np.cos(_TURN), np.sin(_TURN)
    x, y = x - SIDE / 2, y - SIDE / 2
    return x * cos + y * sin, y * cos - x * sin


def _from_streets(u: float, v: float) -> tuple[float, float]:
    cos, sin = float(np.cos(_TURN)), float(np.sin(_TURN))
    return u * cos - v * sin + SIDE / 2, u * sin + v * cos + SIDE / 2


def plan_buildings(random: np.random.Generator) -> list[Building]:
    """Houses outside, tall flat blocks in the middle, a hall here and there; park and creek stay free."""
    return [building for building in _candidates(random) if _may_stand(building)]


def _candidates(random: np.random.Generator) -> Iterator[Building]:
    for column in range(-6, 6):
        for row in range(-7, 7):
            u, v = (column + 0.5) * _PITCH[0], (row + 0.5) * _PITCH[1]
            if np.hypot(u, v) < 105:
                yield from _tall_block(random, u, v)
            elif random.random() < 0.1:
                yield _building(random, u, v, 40.0, 26.0, height=8.5, roof="flat")
            else:
                yield from _houses(random, u, v)


def _tall_block(random: np.random.Generator, u: float, v: float) -> Iterator[Building]:
    for side in (-1, 1):
        height = float(random.uniform(11, 27))
        yield _building(random, u, v + side * 13.5, 50.0, 13.0, height=height, roof="flat")


def _houses(random: np.random.Generator, u: float, v: float) -> Iterator[Building]:
    for side in (-1, 1):
        for lot in range(4):
            if random.random() < 0.1:
                continue
            roof = random.choice(["gabled", "gabled", "hipped", "flat"])
            yield _building(
                random,
                u + (lot - 1.5) * 15.2 + float(random.uniform(-1, 1)),
                v + side * (12 + float(random.uniform(-1.5, 1.5))),
                float(random.uniform(10, 12.2)),
                float(random.uniform(7.5, 10)),
                height=float(random.uniform(3.2, 6.5)),
                roof=roof,
                annex=bool(random.random() < 0.25),
            )


def _building(
    random: np.random.Generator,
    u: float,
    v: float,
    length: float,
    width: float,
    *,
    height: float,
    roof: Literal["flat", "gabled", "hipped"],
    annex: bool = False,
) -> Building:
    """A building at (u, v) of the street frame; `height` is from the ground in its middle to the eaves."""
    turned = length < 20 and random.random() < 0.4
    angle = _TURN + (np.pi / 2 if turned else 0)
    x, y = _from_streets(u, v)
    eaves = float(terrain(x, y)) + height
    wings = [Wing(x, y, length, width, angle, eaves, roof)]
    if annex:
        ax, ay = _from_streets(u + 0.28 * length, v + 0.72 * width)
        wings.append(Wing(ax, ay, 5.0, 6.5, angle, eaves - 0.4, "flat"))
    return Building(tuple(wings))


def _may_stand(building: Building) -> bool:
    """Within the city with its walls, off the creek and the park."""
    x, y = (float(value) for value in shapely.get_coordinates(building.polygon.centroid)[0])
    left, bottom, right, top = building.polygon.bounds
    inside = min(left, bottom) > 3 and max(right, top) < SIDE - 3
    dry = abs(y - float(creek_line(x))) > 24 + (top - bottom) / 4
    return inside and dry and np.hypot(x - PARK[0], y - PARK[1]) > 68


def plan_trees(random: np.random.Generator, buildings: list[Building], *, number: int) -> list[Tree]:
    """Trees along the streets and in the gardens, and a wood in the park; clear of roofs."""
    in_city = random.uniform(2, SIDE - 2, (number, 2))
    in_park = random.normal(0, 30, (number // 3, 2)) + PARK
    spots = np.vstack((in_city, in_park))
    radii = random.uniform(1.6, 4.2, len(spots))
    walls = shapely.STRtree([building.polygon for building in buildings])
    points = shapely.points(spots)
    _, gaps = walls.query_nearest(points, return_distance=True, all_matches=False)
    off_street = street_distance(spots[:, 0], spots[:, 1]) > 0.5
    ground = terrain(spots[:, 0], spots[:, 1])
    return [
        Tree(float(x), float(y), float(radius), float(base + 2.2 * radius + 3.0), float(1.9 * radius))
        for (x, y), radius, base, gap, off in zip(spots, radii, ground, gaps, off_street, strict=True)
        if off and gap > radius + 1.0
    ]
