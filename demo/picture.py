"""Draw the outputs of the App `buildings` for an export: shaded terrain with footprints.

`python -m demo.picture OUTPUTS PNG` looks for dtm.tif and buildings.geojson at any depth below OUTPUTS, one
pair for each file of the export.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no display is needed; this must precede pyplot

import matplotlib.pyplot as plt
import numpy as np
import rasterio  # type: ignore[import-untyped]
import rasterio.merge  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LightSource, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import NDArray
from pyproj import Transformer

Array = NDArray[np.float64]

_GROUND = LinearSegmentedColormap.from_list("ground", ["#7f9f80", "#b3bf95", "#d8cfa4", "#cdb98c", "#c2a27a"])
_ROOFS = LinearSegmentedColormap.from_list("roofs", ["#e2a06f", "#c8603f", "#8f2f2f", "#4f1d33"])


class NothingToShow(Exception):
    """The outputs hold no terrain model. The message is a sentence."""


def draw(outputs: Path, target: Path, *, pixels: int = 1600) -> None:
    """Draw all tiles below `outputs` as one map into the PNG `target`. Raises NothingToShow."""
    models = sorted(outputs.rglob("dtm.tif"))
    if not models:
        raise NothingToShow(
            f"There is no dtm.tif below {outputs}: fetch the outputs of a run of buildings first."
        )
    terrain, extent, crs = _terrain(models)
    rings, heights = _footprints(sorted(outputs.rglob("buildings.geojson")), crs)
    figure, axes = plt.subplots(figsize=(10, 10), dpi=pixels / 10)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.95, bottom=0.07)
    axes.imshow(_shaded(terrain), extent=extent, interpolation="bilinear")
    # The light comes from the north-west, so shadows fall to the south-east, and long from tall houses.
    shadow = np.array([0.35, -0.35])
    shadows = [Polygon(ring + shadow * height) for ring, height in zip(rings, heights, strict=True)]
    axes.add_collection(PatchCollection(shadows, facecolor="#1d2430", alpha=0.35, linewidth=0))
    roofs = PatchCollection(
        [Polygon(ring) for ring in rings], cmap=_ROOFS, edgecolor="#3b1a1a", linewidth=0.5
    )
    roofs.set_array(np.array(heights))
    roofs.set_clim(2, 25)
    axes.add_collection(roofs)
    _legend(figure, axes, roofs, extent, f"{len(rings)} buildings in {len(models)} files")
    figure.savefig(target, facecolor="white")
    plt.close(figure)


def _terrain(models: list[Path]) -> tuple[Array, tuple[float, float, float, float], str]:
    """Elevations of all models together (NaN elsewhere), their extent, and the CRS as WKT."""
    mosaic, transform = rasterio.merge.merge(models)
    with rasterio.open(models[0]) as first:
        nodata, crs = first.nodata, first.crs
    elevations = np.where(mosaic[0] == nodata, np.nan, mosaic[0].astype(np.float64))
    rows, columns = elevations.shape
    left, top = transform @ (0, 0)
    right, bottom = transform @ (columns, rows)
    return elevations, (left, right, bottom, top), crs.to_wkt() if crs else ""


def _footprints(files: list[Path], crs: str) -> tuple[list[Array], list[float]]:
    """Rings in the CRS of the terrain, and the heights of the buildings in metres."""
    transformer = Transformer.from_crs(4326, crs, always_xy=True) if crs else None
    rings, heights = [], []
    for file in files:
        for feature in json.loads(file.read_text())["features"]:
            ring = np.array(feature["geometry"]["coordinates"][0])
            rings.append(np.column_stack(transformer.transform(*ring.T)) if transformer else ring)
            heights.append(float(feature["properties"]["height_m"]))
    return rings, heights


def _shaded(terrain: Array) -> Array:
    """Colours by elevation, with hillshade."""
    filled = np.where(np.isnan(terrain), np.nanmedian(terrain), terrain)
    low, high = np.nanmin(terrain), np.nanmax(terrain)
    light = LightSource(azdeg=315, altdeg=40)
    return np.asarray(
        light.shade(filled, _GROUND, vmin=low, vmax=high, vert_exag=8, blend_mode="soft", fraction=1.0)
    )


def _legend(
    figure: Figure,
    axes: Axes,
    roofs: PatchCollection,
    extent: tuple[float, float, float, float],
    text: str,
) -> None:
    """Title, scale bar, and what the colours of the roofs mean."""
    left, right, bottom, _ = extent
    axes.set_axis_off()
    axes.set_title(text, fontsize=17, color="#333333", loc="left", pad=10)
    bar = 10.0 ** np.floor(np.log10((right - left) / 3))
    below = bottom - (right - left) * 0.02
    (line,) = axes.plot([left, left + bar], [below] * 2, color="#222222", linewidth=4, clip_on=False)
    line.set_solid_capstyle("butt")
    axes.text(left + bar / 2, below - (right - left) * 0.01, f"{bar:g} m", ha="center", va="top", fontsize=12)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    colours = figure.add_axes((0.64, 0.03, 0.3, 0.014))
    figure.colorbar(roofs, cax=colours, orientation="horizontal")
    colours.set_title("height of buildings, metres", fontsize=10, color="#333333", pad=4)
    colours.tick_params(labelsize=9, length=2)


def main() -> None:
    """Entry point of `python -m demo.picture`."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.picture", description="Draw the outputs of buildings."
    )
    parser.add_argument("outputs", type=Path)
    parser.add_argument("png", type=Path)
    parser.add_argument("--pixels", type=int, default=1600, help="width and height (default 1600)")
    chosen = parser.parse_args()
    try:
        draw(chosen.outputs, chosen.png, pixels=chosen.pixels)
    except (NothingToShow, OSError) as error:
        sys.exit(str(error))
    print(f"{chosen.png}  {chosen.png.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
