#!/bin/sh
# Writes the tileset to /grid/tiles. The output directory must not exist.
set -e
jobs=$(printf '%.0f' "$GRID_CPUS")
[ "$jobs" -gt 0 ] || jobs=1
exec py3dtiles convert "$GRID_INPUT" --out "$GRID_OUTPUT/tiles" --jobs "$jobs" --cache_size "$((GRID_MEMORY_BYTES / 4194304))"
