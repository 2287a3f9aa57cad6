"""How long a task is interrupted after kill -9 of its worker, with the default lease: if the worker
returns and adopts the container, and if its node is gone and another one starts the task again.

`python -m bench.recovery` starts an instance of its own. Exits with 1 when a target is missed.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

from bench.measures import Measured
from bench.stage import Stage, opened, second_worker
from bench.table import table
from tests.fixtures.leftovers import mounts_below
from tests.fixtures.pointclouds import write_pointcloud

# Reports progress ten times a second, to show when the log is followed again.
COUNTS = """
i=0
while [ $i -lt 3000 ]; do
    i=$((i + 1)); echo "{\\"progress\\": 0.5, \\"message\\": \\"step $i\\"}" >&2; sleep 0.1
done
"""
ADOPTED_WITHIN, BEGUN_AGAIN_WITHIN = 5.0, 90.0  # seconds


def main() -> int:
    """Measure both and print the table."""
    with opened(slots=1) as stage:
        app, _ = stage.app(COUNTS, time=600)
        export = stage.export(write_pointcloud(stage.directory / "small.laz"))
        rows = [_adopted(stage, app, export), _begun_again(stage, app, export)]
        # Before it is stopped, the returned node removes the attempts that it lost.
        _until(lambda: not mounts_below(str(stage.instance.data)))
    print(f"\n{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end\n")
    print(table(rows))
    return 1 if any(row.holds is False for row in rows) else 0


def _adopted(stage: Stage, app: str, export: str) -> Measured:
    """The supervisor restarts the worker."""
    with _running(stage, app, export) as run:
        os.kill(stage.instance.part("worker"), signal.SIGKILL)
        before = stage.developer.show(run)["message"]
        seconds = _until(lambda: stage.developer.show(run)["message"] != before)
        assert len(stage.developer.show(run)["tasks"][0]["attempts"]) == 1, "it was begun again"
    return _measured("the same node", seconds, ADOPTED_WITHIN)


def _begun_again(stage: Stage, app: str, export: str) -> Measured:
    """The worker is not restarted, because its supervisor is stopped."""
    supervisor = stage.instance.process
    assert supervisor is not None
    with _running(stage, app, export) as run, second_worker(stage):
        supervisor.send_signal(signal.SIGSTOP)
        try:
            os.kill(stage.instance.part("worker"), signal.SIGKILL)
            seconds = _until(lambda: _works_again(stage, run))
        finally:
            supervisor.send_signal(signal.SIGCONT)
    return _measured("another node, after the lease", seconds, BEGUN_AGAIN_WITHIN)


def _works_again(stage: Stage, run: str) -> bool:
    task = stage.developer.show(run)["tasks"][0]
    return len(task["attempts"]) == 2 and task["progress"] > 0


@contextlib.contextmanager
def _running(stage: Stage, app: str, export: str) -> Iterator[str]:
    """A run whose program has begun; canceled at the end."""
    run = stage.developer.submit(app, export, arguments={})
    stage.developer.wait_for_progress(run)
    try:
        yield run
    finally:
        stage.developer.ask("POST", f"/runs/{run}/cancel")
        stage.developer.wait(run, "CANCELED")


def _until(condition: Callable[[], bool]) -> float:
    """Seconds until the condition holds; an error after three minutes."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > 180:
            raise RuntimeError("it did not recover within three minutes")
        time.sleep(0.1)
    return time.monotonic() - begun


def _measured(where: str, seconds: float, at_most: float) -> Measured:
    return Measured(
        f"kill -9 of a worker to its task at work: {where}",
        f"{seconds:.1f} s",
        "",
        target=f"under {at_most:.0f} s",
        holds=seconds < at_most,
    )


if __name__ == "__main__":
    sys.exit(main())
