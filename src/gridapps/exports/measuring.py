"""Measuring every point of a file: bounds, footprint, returns, GPS time. Runs in the reader.

What the header says about the points is compared with them and never trusted.
"""

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridapps.exports import coordinates, decoding, headers, library_limits
from gridapps.exports.decoding import Records
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.footprint import Hull
from gridapps.exports.headers import Header

MOST_REMARKS = 20
LONGEST_REMARK = 600
_LOOSE = 1.0  # header bounds may be wider than the points by this part of their extent, on each side
_FAR = 100  # steps of the scale factor that a point may be outside of a narrow header without being stray


@dataclass(kw_only=True)
class _Measured:
    low: NDArray[np.int64] = field(default_factory=lambda: np.full(3, 2**31, dtype=np.int64))
    high: NDArray[np.int64] = field(default_factory=lambda: np.full(3, -(2**31), dtype=np.int64))
    returns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(16, dtype=np.int64))
    times: list[float] = field(default_factory=list)
    without_time: int = 0
    hull: Hull = field(default_factory=Hull)


def measure(file: int) -> dict[str, Any]:
    """The facts of an open file, as `facts.Facts` has them. Moves the file position.

    Raises BadPointCloud, and whatever decoders raise for damaged points.
    """
    header = headers.read(file, size=os.fstat(file).st_size)
    remarks = list(header.remarks)
    measured = _Measured()
    for records in decoding.pieces(file, header, remarks):
        _add(measured, records, header)
    bounds = _bounds(measured, header)
    named = coordinates.named_by(file, header)
    polygon = measured.hull.polygon(margin=float(np.abs(header.scales[:2]).max()))
    place, fault = coordinates.geojson(polygon, named, bounds)
    remarks += [
        *_remarks_on_bounds(header, bounds),
        *_remarks_on_values(header, measured),
        *named.remarks,
        fault,
        *library_limits.remarks_on(file, header),
    ]
    return {
        "las_version": header.version,
        "point_format": header.point_format,
        "points": header.points,
        "bounds": bounds,
        "returns": measured.returns[1:].tolist(),
        "gps_time": [min(measured.times), max(measured.times)] if measured.times else None,
        "crs": named.wkt,
        "crs_name": named.name,
        "crs_code": named.code,
        "corners": list(polygon.exterior.coords),
        "geojson": place,
        "remarks": [remark[:LONGEST_REMARK] for remark in remarks if remark][:MOST_REMARKS],
    }


def _add(measured: _Measured, records: Records, header: Header) -> None:
    raw = [records[axis] for axis in "XYZ"]
    measured.low = np.minimum(measured.low, [each.min() for each in raw])
    measured.high = np.maximum(measured.high, [each.max() for each in raw])
    spots = np.column_stack([raw[axis] * header.scales[axis] + header.offsets[axis] for axis in (0, 1)])
    if not np.isfinite(spots).all():
        raise BadPointCloud("Among the points are values of x or y that are not finite numbers.")
    measured.hull.add(spots)
    number = records["returns"] & (15 if header.point_format >= 6 else 7)
    measured.returns += np.bincount(number, minlength=16)
    if "gps" in (records.dtype.names or ()):
        times = records["gps"]
        finite = times[np.isfinite(times)]
        measured.without_time += len(times) - len(finite)
        if len(finite):
            measured.times += [float(finite.min()), float(finite.max())]


def _bounds(measured: _Measured, header: Header) -> list[float]:
    """minx, miny, minz, maxx, maxy, maxz. A negative scale factor swaps the ends."""
    scales, offsets = np.array(header.scales), np.array(header.offsets)
    ends = np.vstack((measured.low * scales + offsets, measured.high * scales + offsets))
    if not np.isfinite(ends).all():
        raise BadPointCloud("Among the points are coordinates that are not finite numbers.")
    return [*ends.min(axis=0).tolist(), *ends.max(axis=0).tolist()]


def _remarks_on_bounds(header: Header, bounds: list[float]) -> list[str]:
    wrong, far = [], False
    for axis, name in enumerate("xyz"):
        low, high = bounds[axis], bounds[axis + 3]
        least, most = header.mins[axis], header.maxs[axis]
        step = abs(header.scales[axis]) + 1e-9 * max(abs(low), abs(high))
        loose = max(_LOOSE * (high - low), 10 * step)
        tight = low >= least - step and high <= most + step
        if tight and low - least <= loose and most - high <= loose:
            continue
        outside = max(least - low, high - most)
        far = far or (least <= most and outside > max(most - least, _FAR * step))
        wrong.append(f"{name} from {least:g} to {most:g} instead of {low:.10g} to {high:.10g}")
    if not wrong:
        return []
    stray = " Points this far outside may be stray or damaged." if far else ""
    return [
        f"The bounds in the header are wrong: {'; '.join(wrong)}. The export has those of the points.{stray}"
    ]


def _remarks_on_values(header: Header, measured: _Measured) -> list[str]:
    found = []
    if (count := measured.without_time) > 0:
        found.append(f"The GPS time of {count} point{'s' if count > 1 else ''} is not a finite number.")
    counted = measured.returns[1 : len(header.returns) + 1].tolist()
    # Writers count points without a return number as first returns, or not at all.
    with_zero = [counted[0] + int(measured.returns[0]), *counted[1:]]
    if any(header.returns) and list(header.returns) not in (counted, with_zero):
        found.append(
            "The header's counts of points by return are wrong: "
            f"{_counts(list(header.returns))} instead of {_counts(counted)}."
        )
    return found


def _counts(numbers: list[int]) -> str:
    """The numbers without the zeros at their end."""
    while numbers and not numbers[-1]:
        numbers = numbers[:-1]
    return ", ".join(map(str, numbers)) or "none"
