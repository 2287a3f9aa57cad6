"""An instance for crash tests, with a separate engine, database and broker. `assert_nothing_lost` checks that
nothing was lost, done twice or left over."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import psycopg

from tests.fixtures.broker import Broker
from tests.fixtures.instance import Instance, new_instance
from tests.fixtures.leftovers import mounts_below
from tests.fixtures.own_engine import OwnEngine
from tests.fixtures.people import Person
from tests.fixtures.pointclouds import write_pointcloud
from tests.fixtures.postgresql import Cluster

LEASE = 5  # seconds
FILES = 2  # of the export, and so tasks of each run
RECOVERS = 90.0  # seconds in which a run must end and leave nothing over, whatever was killed
APP = "crashed"
_ACTIVE = "('QUEUED', 'RUNNING')"

Outputs = set[tuple[str, str]]  # path and SHA-256


@dataclass
class Rig:
    """The instance, the services that it uses, and a developer with an App and an export."""

    instance: Instance
    engine: OwnEngine
    cluster: Cluster | None  # None: SQLite
    broker: Broker | None
    developer: Person = field(init=False)
    export: str = field(init=False)
    image: str = field(init=False)  # its reference in the rig's engine after a pull
    undisturbed: Outputs = field(init=False)

    def prepare(self, image: str) -> None:
        """Create user, App and export in the running instance, and note the outputs of an undisturbed run."""
        home = Path(tempfile.mkdtemp(prefix="chaos-"))
        token = self.instance.user("developer", developer=True)
        self.developer = Person(self.instance, "developer", token, home)
        self.developer.create_app(APP)
        digest = self.developer.push(image, APP)
        self.image = f"127.0.0.1:{self.instance.settings['GRIDAPPS_REGISTRY_PORT']}/{APP}@{digest}"
        files = [write_pointcloud(home / f"{n}.laz", points=100 + n) for n in range(FILES)]
        self.export = self.instance.import_export(*files, owner="developer")
        run = self.submit(seconds=0)
        self.developer.wait(run, "SUCCESS")
        self.undisturbed = self.outputs(run)
        assert len(self.undisturbed) == FILES * 303
        self.settle(run)

    def submit(self, *, seconds: float) -> str:
        """Submit a run of the App; return its id."""
        return self.developer.submit(APP, self.export, arguments={"seconds": seconds})

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the database directly. The placeholder is `?`."""
        if self.cluster is not None:
            url = self.instance.settings["GRIDAPPS_DATABASE"]
            with psycopg.connect(url, autocommit=True) as connection:
                return connection.execute(statement.replace("?", "%s").encode(), values).fetchall()
        path = f"file:{self.instance.data}/database/gridapps.sqlite3?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as connection:
            return connection.execute(statement, [str(value).replace("-", "") for value in values]).fetchall()

    def tasks(self, run: str) -> list[tuple[Any, ...]]:
        """(state, deadline, attempt) of each task."""
        return self.query(
            'SELECT state, deadline, attempt FROM runs_task WHERE run_id = ? ORDER BY "index"', run
        )

    def outputs(self, run: str) -> Outputs:
        """Every output of a run as the API lists it."""
        found: Outputs = set()
        address = f"/runs/{run}/outputs?limit=1000"
        with self.developer.client() as client:
            while address:
                page = client.get(f"/api/v3{address}" if address.startswith("/runs") else address).json()
                rows = [(output["path"], output["sha256"]) for output in page["outputs"]]
                assert not found & set(rows), "an output is listed twice"
                found |= set(rows)
                address = page.get("next") or ""
        return found

    def place(self, run: str, index: int) -> Path:
        """The directory with logs and outputs of a task's attempts."""
        return self.instance.data / "outputs" / run / str(index)

    def until(self, condition: Callable[[], object], what: str, *, seconds: float = 30.0) -> None:
        """Poll until the condition is true. Fails with the logs after `seconds`."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not {what} within {seconds:.0f} s\n{self.instance.tail()}"
            time.sleep(0.02)

    def up(self) -> bool:
        """Whether every part works again."""
        parts = ("registry", "application", "nginx", "launcher", "worker")
        return (
            all(self.instance.find(part) for part in parts)
            and (self.instance.data / "run" / "bells" / "local.bell").exists()
            and self.instance.answers()
        )

    def assert_nothing_lost(self, run: str) -> int:
        """Check the invariants: the accepted run succeeds, each task completes once, the outputs are those of
        an undisturbed run, and nothing is left over. Returns the number of attempts."""
        self.until(lambda: self._ended(run), "ended", seconds=RECOVERS)
        self.until(self.up, "up again", seconds=RECOVERS)
        shown = self.developer.show(run)
        assert shown["state"] == "SUCCESS", shown
        assert self.outputs(run) == self.undisturbed
        most = 0
        for task in shown["tasks"]:
            attempts = task["attempts"]
            assert [attempt["number"] for attempt in attempts] == list(range(1, len(attempts) + 1))
            assert [attempt["reason"] or "" for attempt in attempts if not attempt["reason"]] == [""], (
                attempts
            )
            assert attempts[-1]["reason"] is None
            assert all(attempt["ended_at"] for attempt in attempts), attempts
            most = max(most, len(attempts))
        self.settle(run)
        return most

    def _ended(self, run: str) -> bool:
        with contextlib.suppress(psycopg.OperationalError, sqlite3.OperationalError):
            return not {state for state, _, _ in self.tasks(run)} & {"QUEUED", "RUNNING"}
        return False

    def settle(self, run: str) -> None:
        """Wait until only the user's data is left of a run, then remove that as well."""
        self.until(lambda: self.left_over(run) == [], "clean", seconds=RECOVERS)
        shutil.rmtree(self.instance.data / "outputs" / run)

    def left_over(self, run: str) -> list[str]:
        """Leftovers of the run, and of anything else in this instance."""
        return [
            *(f"container {row['Names']}" for row in self._containers()),
            *(f"mount {point}" for point in mounts_below(f"{self.instance.data}/scratch")),
            *(f"input {path.name}" for path in (self.instance.data / "inputs").glob("*")),
            *(f"workspace {path.name}" for path in (self.instance.data / "scratch").iterdir()),
            *(f"loop device {line}" for line in _loops() if str(self.instance.data / "scratch") in line),
            *(
                f"row {row}"
                for row in self.query(f"SELECT id, state FROM runs_task WHERE state IN {_ACTIVE}")
            ),
            *(f"row {row}" for row in self.query("SELECT task_id FROM runs_attempt WHERE ended_at IS NULL")),
            *self._directories_beside_the_last_attempts(run),
        ]

    def _containers(self) -> list[dict[str, Any]]:
        with contextlib.closing(docker.APIClient(self.engine.address)) as client:
            return list(client.containers(all=True))

    def _directories_beside_the_last_attempts(self, run: str) -> Iterator[str]:
        for index, (_, _, attempt) in enumerate(self.tasks(run)):
            for path in self.place(run, index).iterdir():
                if path.name != str(attempt):
                    yield f"directory {path}"

    def forget_image(self) -> None:
        """Remove the image from the engine, so that the next run pulls it."""
        with (
            contextlib.closing(docker.APIClient(self.engine.address)) as client,
            contextlib.suppress(docker.errors.ImageNotFound),
        ):
            client.remove_image(self.image, force=True)

    def kill_everything(self) -> None:
        """kill -9 all processes of the instance, of its engine, its database and its broker at once."""
        found = set(self.instance.processes())
        sessions = {_session(pid) for pid in found}
        supervisor = self.instance.process
        assert supervisor is not None
        found |= {pid for pid in _processes() if _session(pid) in sessions}
        for pid in (supervisor.pid, *sorted(found)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.engine.kill()
        if self.cluster is not None:
            self.cluster.stop()
        if self.broker is not None:
            self.broker.kill()
        supervisor.wait(30)

    def start_everything(self) -> None:
        """Start everything after `kill_everything`."""
        if self.broker is not None:
            self.broker.start()
        if self.cluster is not None:
            self.cluster.resume()
        self.engine.start()
        self.instance.start()

    def remove(self) -> None:
        """Remove everything. Fails if the instance leaves something mounted."""
        try:
            self.instance.remove()
        finally:
            self.engine.remove()
            if self.broker is not None:
                self.broker.remove()


def new_rig(
    *,
    image: str,
    cluster: Cluster | None,
    broker: Broker | None,
    live_restore: bool,
    environment: dict[str, str] | None = None,
) -> Rig:
    """A running rig. `environment` is added to that of its processes."""
    engine = OwnEngine(live_restore=live_restore)
    settings: dict[str, Any] = {
        "lease": LEASE,
        "slots": FILES,
        "engine": engine.address,
        "on_stop": "leave",
    }
    if cluster is not None:
        settings["database"] = cluster.create_database("chaos")
    if broker is not None:
        settings["broker"] = broker.url
    rig = Rig(new_instance(**settings), engine, cluster, broker)
    rig.instance.settings |= environment or {}
    try:
        engine.start()
        rig.instance.start()
        rig.prepare(image)
    except BaseException:
        rig.remove()
        raise
    return rig


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def _loops() -> list[str]:
    shown = subprocess.run(["losetup", "--list", "--noheadings"], capture_output=True, text=True, check=True)
    return shown.stdout.splitlines()
