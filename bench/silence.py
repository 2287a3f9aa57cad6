"""Response times for an outsider: for an App or a run that exists, and for one that does not.

`python -m bench.silence` starts an instance of its own. Exits with 1 when medians differ by more than noise.
"""

import os
import ssl
import statistics
import sys
import uuid
from collections.abc import Callable
from functools import partial

import httpx

from bench.measures import Measured
from bench.stage import Stage, opened, timed
from bench.table import table
from tests.fixtures.people import Person
from tests.fixtures.pointclouds import write_pointcloud

ROUNDS = 300
AT_MOST = 1.1  # of the other's median, either way


def main() -> int:
    """Measure and print the table."""
    with opened(slots=1) as stage:
        app, _ = stage.app("true")
        run = stage.developer.submit(app, stage.export(write_pointcloud(stage.directory / "small.laz")))
        stage.developer.wait(run)
        outsider = _developer(stage)
        absent_app, absent_run = f"bench-{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
        with outsider.client() as client, _door(stage, outsider) as door:
            pairs = [
                ("GET /apps/X", client.get, "/api/v3/apps/{}", app, absent_app),
                ("GET /apps/X/releases", client.get, "/api/v3/apps/{}/releases", app, absent_app),
                ("DELETE /apps/X", client.delete, "/api/v3/apps/{}", app, absent_app),
                ("GET /runs/X", client.get, "/api/v3/runs/{}", run, absent_run),
                ("GET /runs/X/log", client.get, "/api/v3/runs/{}/log", run, absent_run),
                ("GET /v2/X/tags/list", door.get, "/v2/{}/tags/list", app, absent_app),
            ]
            rows = [
                _compared(name, ask, path.format(there), path.format(absent))
                for name, ask, path, there, absent in pairs
            ]
    print(f"\n{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end\n")
    print(table(rows))
    return 1 if any(row.holds is False for row in rows) else 0


def _developer(stage: Stage) -> Person:
    """An outsider who is a developer, because requests to the registry need a certificate."""
    token = stage.instance.user("outsider", developer=True)
    home = stage.directory / "outsider"
    home.mkdir()
    return Person(stage.instance, "outsider", token, home)


def _door(stage: Stage, outsider: Person) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(stage.instance.ca))
    files = outsider.certificate()
    context.load_cert_chain(files / "client.cert", files / "client.key")
    return httpx.Client(base_url=stage.instance.url, verify=context, trust_env=False, timeout=30)


def _compared(name: str, ask: Callable[[str], httpx.Response], there: str, absent: str) -> Measured:
    """Medians of alternate measurements; the first of each is for warming up."""
    answers = [ask(path).status_code for path in (there, absent)]
    assert answers[0] == answers[1], (name, answers)
    times: dict[str, list[float]] = {there: [], absent: []}
    for number in range(ROUNDS):  # alternate which one is first
        for path in (there, absent) if number % 2 else (absent, there):
            times[path].append(timed(partial(ask, path)))
    ours, theirs = (statistics.median(times[path]) for path in (there, absent))
    ratio = ours / theirs
    return Measured(
        name, f"{ours * 1000:.2f} ms", f"{theirs * 1000:.2f} ms, for nothing", ratio,
        f"within {AT_MOST:.2f}", 1 / AT_MOST <= ratio <= AT_MOST,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
