"""What the instance costs on top of the engine. `make bench` starts one of its own and prints a table.

Only the loopback is loaded. Exits with 1 when a target is missed.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import measures
from bench.measures import Measured
from bench.stage import Stage, opened

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
    print(_table(rows))
    return 1 if any(row.holds is False for row in rows) else 0


def _table(rows: list[Measured]) -> str:
    cells = [["measure", "GRiD Apps", "beside", "ratio", "target", ""]]
    for row in rows:
        verdict = {True: "met", False: "MISSED", None: ""}[row.holds]
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        cells.append([row.name, row.ours, row.theirs, ratio, row.target, verdict])
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
