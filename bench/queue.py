"""The cost of the queue: claims and lists in long tables on both databases, and the rate of two workers.

`python -m bench.queue [--runs N] [--tasks N] [--only rows|tasks]`. Exits with 1 when a target is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import measures
from bench.measures import Measured
from bench.stage import opened, second_worker
from bench.table import table
from tests.fixtures.postgresql import Cluster


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="rows in the table that is listed")
    parser.add_argument("--tasks", type=int, default=200, help="no-op tasks through two workers")
    parser.add_argument("--only", choices=("rows", "tasks"))
    chosen = parser.parse_args()
    rows: list[Measured] = []
    if chosen.only in {None, "rows"}:
        with tempfile.TemporaryDirectory(prefix="gq-") as name:
            Path(name).chmod(0o711)
            rows += _in_rows("SQLite", "", Path(name), chosen.runs)
            cluster = Cluster.start(Path(name))
            try:
                rows += _in_rows("PostgreSQL", cluster.create_database("bench"), Path(name), chosen.runs)
            finally:
                cluster.stop()
    if chosen.only in {None, "tasks"}:
        with opened(slots=1) as stage, second_worker(stage):
            rows.append(measures.burst(stage, runs=chosen.tasks, at_most=1 / 0.9, by="two workers"))
    print(f"\n{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end\n")
    print(table(rows))
    return 1 if any(row.holds is False for row in rows) else 0


def _in_rows(name: str, database: str, parent: Path, runs: int) -> list[Measured]:
    """In a separate process, because a process reads the settings once."""
    print(f"measuring rows on {name} ...", file=sys.stderr, flush=True)
    data = parent / name
    data.mkdir()
    rest = {key: value for key, value in os.environ.items() if not key.startswith("GRIDAPPS_")}
    done = subprocess.run(
        [sys.executable, "-m", "bench.queue_rows", name, str(runs)],
        env={**rest, "GRIDAPPS_DATA": str(data), "GRIDAPPS_DATABASE": database},
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return [Measured(**row) for row in json.loads(done.stdout)]


if __name__ == "__main__":
    sys.exit(main())
