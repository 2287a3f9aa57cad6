#!/bin/sh
# The App of the tests in the machine: {"do": "show"|"eat"|"fork"|"wait"}
set -e
arguments=$(cat)
case $arguments in
*show*)
    for file in memory.max memory.swap.max pids.max cpu.max; do
        echo "$file $(cat /sys/fs/cgroup/$file)"
    done > /grid/limits.txt
    grep " /sys/fs/cgroup " /proc/mounts > /grid/type.txt
    ;;
*eat*) tail /dev/zero ;;
*fork*)
    i=0
    while [ $i -lt 1000 ]; do sleep 3600 & i=$((i + 1)); done
    ;;
*wait*)
    echo started >> /grid/started.txt
    echo '{"progress": 0.1}' >&2
    sleep 86399 || true # the test kills it
    ;;
esac
echo end >&2
