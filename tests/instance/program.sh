#!/bin/sh
# The test App: {"do": "summary"|"sleep"|"fail"|"fill"|"eat"|"fork", "seconds": N, "megabytes": N}
set -e
arguments=$(cat)
value() { printf '%s' "$arguments" | sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p"; }
say() { echo "$@" >&2; }

say "begin $(value do)"
case $(value do) in
summary)
    say '{"progress": 0.5, "message": "half"}'
    echo "on standard output"
    mkdir -p /grid/sub
    sha256sum < "$GRID_INPUT" > /grid/sub/input.sha256
    printf '%s' "$arguments" > /grid/arguments.json
    seq 20000 > /grid/numbers.txt
    ;;
sleep)
    say '{"progress": 0.1}'
    date +%s.%N >> /grid/started.txt
    sleep "$(value seconds)"
    ;;
fail)
    echo "kept" > /grid/partial.txt
    say "nothing to be found here"
    exit 3
    ;;
fill) dd if=/dev/zero of=/grid/big bs=1M count="$(value megabytes)" ;;
eat) tail /dev/zero ;;
fork)
    i=0
    while [ $i -lt 2000 ]; do sleep 30 & i=$((i + 1)); done
    ;;
*)
    say "unknown: $arguments"
    exit 2
    ;;
esac
say "end"
