"""An instance for the benchmarks, with a developer, an App and exports, and functions that measure it."""

import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.fixtures.engine import Engine
from tests.fixtures.instance import SERVER, Instance, new_instance
from tests.fixtures.people import Person

MIB = 1024**2
ENDED = ("SUCCESS", "FAILURE", "CANCELED")


@dataclass(frozen=True)
class Stage:
    """A running instance, its engine, and a developer in it."""

    instance: Instance
    engine: Engine
    developer: Person
    directory: Path

    def app(self, script: str, **resources: float) -> tuple[str, str]:
        """Make and push an App whose program is this shell script: its app-id, its image in the engine."""
        image = self.engine.image(entrypoint=["/bin/sh", "-c", script])
        app_id = f"bench-{uuid.uuid4().hex[:8]}"
        self.developer.create_app(app_id, **resources)
        self.developer.push(image, app_id)
        return app_id, image

    def export(self, file: Path) -> str:
        """Import one file; the export's key."""
        return self.instance.import_export(file, owner=self.developer.name, name=file.name)


@contextmanager
def opened(**settings: object) -> Iterator[Stage]:
    """Start an instance with these settings, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="gb-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        instance, engine = new_instance(parent=directory, **settings), Engine()
        try:
            instance.start()
            developer = Person(instance, "developer", instance.user("developer", developer=True), directory)
            yield Stage(instance, engine, developer, directory)
        finally:
            instance.remove()
            engine.close()


@contextmanager
def second_worker(stage: Stage) -> Iterator[None]:
    """Another node on this machine, with the same engine and data."""
    worker = subprocess.Popen(
        [SERVER, "worker", "--node", "second"], env=stage.instance.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    bell = stage.instance.data / "run" / "bells" / "second.bell"
    try:
        stage.instance.wait_until(bell.exists, what="a second worker")
        yield
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)


def submit(client: httpx.Client, app: str, export: str, arguments: dict[str, Any]) -> str:
    """POST a run; its id."""
    answer = client.post(f"/api/v3/apps/{app}/runs", json={"export": export, "arguments": arguments})
    return str(answer.raise_for_status().json()["runs"][0]["run_id"])


def follow(client: httpx.Client, run: str) -> None:
    """Long-poll until the run has ended. Raises RuntimeError unless it succeeded."""
    etag, shown = '"0"', {"state": ""}
    while shown["state"] not in ENDED:
        answer = client.get(f"/api/v3/runs/{run}", params={"wait": 30}, headers={"If-None-Match": etag})
        if answer.status_code != 304:
            shown = answer.raise_for_status().json()["runs"][0]
            etag = answer.headers["ETag"]
    if shown["state"] != "SUCCESS":
        raise RuntimeError(f"a run ended as {shown['state']}: {shown['reason_text']}")


def follow_all(client: httpx.Client, runs: list[str]) -> None:
    """Wait until all have ended with few requests: the last one first, then all at once."""
    follow(client, runs[-1])
    shown = client.get(f"/api/v3/runs/{','.join(runs)}").raise_for_status().json()["runs"]
    for run in shown:
        if run["state"] != "SUCCESS":
            follow(client, run["id"])


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
