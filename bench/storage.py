"""The cost of S3 as the storage: for the first run on a file and for later ones, beside a local storage.

    .venv/bin/python bench/storage.py [MEGABYTES]

Needs a running engine (`scripts/engine start`). rclone is the S3 server, on the same processors.
"""

import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.clouds import sparse_cloud
from bench.stage import MIB, Stage, follow, opened, submit, timed
from tests.fixtures.s3 import CREDENTIALS, serving

ROUNDS = 10
READS_ALL = "cat $GRID_INPUT > /dev/null; cat > /grid/arguments.json"


class _Runs:
    """Runs of one App on one file."""

    def __init__(self, stage: Stage, megabytes: int) -> None:
        self._stage = stage
        self._app, _ = stage.app(READS_ALL)
        self._export = stage.export(sparse_cloud(stage.directory / "large.las", size=megabytes * MIB))

    def once(self) -> float:
        """Seconds from POST to SUCCESS."""
        with self._stage.developer.client() as client:
            client.get("/api/v3/me")  # connect before the clock starts
            return timed(lambda: follow(client, submit(client, self._app, self._export, {})))


def main() -> None:
    """Measure alternately, and print."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    os.environ |= CREDENTIALS
    with serving() as server, opened(slots=2) as local:
        remote_settings = {"storage": "s3://grid/bench", "s3_endpoint": server.endpoint}
        with opened(slots=2, **remote_settings) as remote:
            near, far = _Runs(local, megabytes), _Runs(remote, megabytes)
            near.once()
            first = far.once()
            asked = server.asked()["get object"]
            pairs = [(near.once(), far.once()) for _ in range(ROUNDS)]
            fetched = server.asked()["get object"] - asked
    here, there = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{megabytes} MB, medians of {ROUNDS}, {os.cpu_count()} processors")
    print(f"local storage          {here * 1000:6.0f} ms")
    print(f"S3, first run          {first * 1000:6.0f} ms")
    print(f"S3, later runs         {there * 1000:6.0f} ms, {there / here:.2f} times local, {fetched} fetched")


if __name__ == "__main__":
    main()
