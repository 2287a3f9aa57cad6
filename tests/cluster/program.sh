#!/bin/sh
# The App of the cluster tests: {"seconds": N}. Its outputs depend only on the input.
set -e
seconds=$(cat | sed -n 's/.*"seconds": *\([0-9.]*\).*/\1/p')
echo '{"progress": 0.1, "message": "begun"}' >&2
sleep "$seconds"
sha256sum < "$GRID_INPUT" > /grid/input.sha256
seq 20000 > /grid/numbers.txt
