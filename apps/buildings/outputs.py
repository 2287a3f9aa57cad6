"""Outputs of a run: footprints as GeoJSON, and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from osgeo import gdal, osr
from PIL import Image, ImageDraw
from shapely.geometry import mapping
from shapely.ops import transform

import ground
from cloud import Cloud
from footprints import Building

_LARGEST_PICTURE = 1200  # pixels


def write_geojson(path: Path, buildings: list[Building], place: Cloud) -> None:
    """In WGS 84, as RFC 7946 requires; in the file's own coordinates if it has no CRS."""
    move = _to_wgs84(place.wkt) if place.wkt else lambda x, y: (x, y)
    digits = 8 if place.wkt else 3
    features = [
        {
            "type": "Feature",
            "id": number,
            "properties": {
                "area_m2": round(one.area, 1),
                "height_m": round(one.height, 2),
                "ground_m": round(one.ground, 2),
            },
            "geometry": _rounded(mapping(transform(move, one.polygon)), digits),
        }
        for number, one in enumerate(buildings, start=1)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}) + "\n")


def _to_wgs84(wkt: str) -> Callable:
    source, target = osr.SpatialReference(wkt), osr.SpatialReference()
    target.ImportFromEPSG(4326)
    for srs in (source, target):
        srs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    transformation = osr.CoordinateTransformation(source, target)
    return lambda x, y: tuple(np.array(transformation.TransformPoints(list(zip(x, y)))).T[:2])


def _rounded(geometry: dict, digits: int) -> dict:
    def rounded(part: Any) -> Any:
        return round(part, digits) if isinstance(part, float) else [rounded(inner) for inner in part]

    return {"type": geometry["type"], "coordinates": rounded(geometry["coordinates"])}


def write_preview(path: Path, dtm: Path, buildings: list[Building]) -> None:
    """Shaded terrain with the footprints on it."""
    raster = gdal.Open(str(dtm))
    scale = min(1.0, _LARGEST_PICTURE / max(raster.RasterXSize, raster.RasterYSize))
    width, height = max(1, int(raster.RasterXSize * scale)), max(1, int(raster.RasterYSize * scale))
    elevations = raster.ReadAsArray(buf_xsize=width, buf_ysize=height).astype(float)
    left, step_x, _, top, _, step_y = raster.GetGeoTransform()
    step_x, step_y = step_x * raster.RasterXSize / width, step_y * raster.RasterYSize / height
    picture = Image.fromarray(_shaded(elevations, step_x)).convert("RGB")
    draw = ImageDraw.Draw(picture, "RGBA")
    for one in buildings:
        ring = [((x - left) / step_x, (y - top) / step_y) for x, y in one.polygon.exterior.coords]
        draw.polygon(ring, fill=(205, 92, 60, 190), outline=(110, 40, 25, 255))
    picture.save(path, optimize=True)


def _shaded(elevations: np.ndarray, step: float) -> np.ndarray:
    """Grey values for light from the north-west, 45 degrees high."""
    empty = elevations == ground.NODATA
    elevations = np.where(empty, elevations[~empty].mean() if (~empty).any() else 0, elevations)
    if min(elevations.shape) < 2:
        return np.full(elevations.shape, 180, dtype=np.uint8)
    down, right = (
        4 * slope for slope in np.gradient(elevations, step)
    )  # four times as steep: hills are gentle
    light = (1 + right * 0.7 + down * 0.7) / np.sqrt(2 * (1 + right**2 + down**2))
    return np.where(empty, 255, np.clip(light * 270, 0, 255)).astype(np.uint8)
