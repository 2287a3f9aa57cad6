"""The overhead of the instance over the engine. `make bench` starts an instance and prints a table.

Only the loopback is loaded. Exits with 1 when a target is missed.
"""

import argparse
import os
import sys
from collections.abc import Callable

from bench import measures
from bench.measures import Measured
from bench.stage import Stage, opened
from bench.table import table

MEASURES: dict[str, Callable[[Stage], list[Measured]]] = {
    "idle": lambda stage: measures.idle(stage, seconds=30),
    "latency": lambda stage: [measures.latency(stage, rounds=20)],
    "burst": lambda stage: [measures.burst(stage, runs=50)],
    "input": lambda stage: [measures.input_size(stage, rounds=10)],
    "download": lambda stage: [measures.download(stage, rounds=5)],
}


def main() -> int:
    """Measure what the command line names (by default: everything) and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help=f"measures: {', '.join(MEASURES)}")
    chosen = parser.parse_args().only or list(MEASURES)
    if unknown := set(chosen) - set(MEASURES):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    rows = []
    with opened(slots=2) as stage:
        for name in chosen:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            rows += MEASURES[name](stage)
    print(f"\n{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end\n")
    print(table(rows))
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
