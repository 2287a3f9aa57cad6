"""Exports and uploads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class ExportFile:
    """A point cloud file. `bounds`: minimum x, y, z, then maximum; `geom`: WKT; both in the file's CRS, which
    `crs` has as WKT 2 and `crs_code` as EPSG:CODE, if it has one. `geojson`: the footprint in WGS 84.
    `returns`: points by return number. `gps_time`: least and greatest. `remarks`: sentences.
    """

    pk: str
    name: str
    filesize: int
    sha256: str
    points: int
    las_version: str
    point_format: int
    bounds: list[float]
    crs: str
    geom: str
    crs_name: str = ""
    crs_code: str = ""
    geojson: dict[str, Any] | None = None
    returns: list[int] | None = None
    gps_time: list[float] | None = None
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Export:
    """One or more point cloud files that belong together."""

    pk: str
    name: str
    user: str
    created_at: datetime
    notes: str
    exportfiles: list[ExportFile]


@dataclass(frozen=True)
class UploadedFile:
    """A file of an upload. `offset`: how many bytes have arrived; `reason`: why it was refused."""

    index: int
    name: str
    size: int
    sha256: str
    offset: int
    reason: str
    url: str


@dataclass(frozen=True)
class Upload:
    """Files that become an export. `state`: receiving, checking, ready or refused."""

    id: str
    name: str
    skip_bad: bool
    state: str
    reason: str
    export: str | None
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    files: list[UploadedFile]
