"""How a hostile App slows down a neighbour: the same work alone, and beside a harmless and a hostile run.

`python -m bench.hostile [NEIGHBOUR...]` starts an instance of its own with two slots and prints a table.
The ratio is against the harmless neighbour, since two runs share what the machine has. Meaningful only where
nothing else runs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path

from bench.stage import ENDED, MIB, Stage, opened
from tests.fixtures.people import RESOURCES
from tests.fixtures.pointclouds import write_pointcloud

SOURCE = Path(__file__).parents[1] / "tests" / "hostile" / "hostile.c"
NEIGHBOURS = (
    *("work", "fork-bomb", "spin", "memory-bomb", "memory-tmp", "log-for-ever", "log-short-lines"),
    *("disk-grid", "million-files", "stdout-flood"),
)


def main() -> int:
    """Measure beside the neighbours that the command line names, by default all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help=f"neighbours: {', '.join(NEIGHBOURS)}")
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    if unknown := set(words.only) - set(NEIGHBOURS):
        parser.error(f"there is no neighbour {', '.join(sorted(unknown))}")
    with opened(slots=2) as stage:
        app = _app(stage)
        export = stage.export(write_pointcloud(stage.directory / "small.laz"))
        alone = _median(stage, app, export, "", words.rounds)
        pair = _median(stage, app, export, "work", words.rounds)
        print(f"\n{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; medians of {words.rounds}\n")
        print("| beside | seconds | against a harmless neighbour |\n|---|---|---|")
        print(f"| nobody | {alone:.2f} | {alone / pair:.2f} |\n| work | {pair:.2f} | 1.00 |", flush=True)
        for name in words.only or NEIGHBOURS[1:]:
            seconds = _median(stage, app, export, name, words.rounds)
            print(f"| {name} | {seconds:.2f} | {seconds / pair:.2f} |", flush=True)
    return 0


def _app(stage: Stage) -> str:
    program = stage.directory / "hostile"
    subprocess.run(["gcc", "-static", "-O1", "-o", str(program), str(SOURCE)], check=True)
    image = stage.engine.image(entrypoint=["/hostile"], files={"/hostile": (program.read_bytes(), 0o755)})
    app = f"hostile-{uuid.uuid4().hex[:8]}"
    stage.developer.create_app(app)
    stage.developer.push(image, app)
    return app


def _median(stage: Stage, app: str, export: str, neighbour: str, rounds: int) -> float:
    return statistics.median(_once(stage, app, export, neighbour) for _ in range(rounds))


def _once(stage: Stage, app: str, export: str, neighbour: str) -> float:
    """Seconds from start to end of the work. The neighbour starts first and is restarted when it ends."""
    developer = stage.developer

    def submit(name: str) -> str:
        resources = {**RESOURCES, "time": 120, "disk": 64 * MIB}
        return developer.submit(app, export, arguments={"do": name}, resources=resources)

    beside = submit(neighbour) if neighbour else ""
    if beside:
        developer.wait(beside, "RUNNING", *ENDED)
    work = submit("work")
    while (shown := developer.show(work))["state"] not in ENDED:
        time.sleep(0.2)
        if beside and developer.show(beside)["state"] in ENDED:
            beside = submit(neighbour)
    if beside and developer.show(beside)["state"] not in ENDED:
        with developer.client() as client:
            client.post(f"/api/v3/runs/{beside}/cancel")  # it may have ended just now
        developer.wait(beside)
    if shown["state"] != "SUCCESS":
        raise RuntimeError(f"the work ended as {shown['state']}: {shown['reason_text']}")
    began, ended = (datetime.fromisoformat(shown[f"{name}_at"]) for name in ("started", "ended"))
    return (ended - began).total_seconds()


if __name__ == "__main__":
    sys.exit(main())
