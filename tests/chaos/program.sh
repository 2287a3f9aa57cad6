#!/bin/sh
# The App of the crash tests: {"seconds": N}. It always writes the same outputs, however often it was started.
set -e
seconds=$(cat | sed -n 's/.*"seconds": *\([0-9.]*\).*/\1/p')
echo '{"progress": 0.1, "message": "begun"}' >&2
sleep "$seconds"
sha256sum < "$GRID_INPUT" > /grid/input.sha256
mkdir -p /grid/many
seq 300 | awk '{ file = "/grid/many/" $1 ".txt"; print $1 > file; close(file) }'
seq 1500000 > /grid/numbers.txt
echo "the end"
