#!/bin/sh
# Makes a terrain model of the ground points. PDAL chooses the reader by the ending of GRID_INPUT.
set -e
echo '{"progress": 0.1, "message": "finding the ground"}' >&2
exec pdal translate "$GRID_INPUT" "$GRID_OUTPUT/dtm.tif" outlier smrf range \
    --filters.smrf.ignore="Classification[7:7]" --filters.range.limits="Classification[2:2]" \
    --writers.gdal.resolution=1 --writers.gdal.output_type=idw --writers.gdal.window_size=4
