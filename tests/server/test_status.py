"""`gridapps-server status`: rows, parts that are down, and a database that does not answer."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from gridapps.hooks import operations as hooks
from gridapps.processes import part_states
from gridapps.processes.part_states import PartState
from gridapps.runs.models import Node, Task
from gridapps.server import status
from tests.runs.conftest import make_run, release, shared_with
from tests.runs.test_queue import claim

__all__ = ["make_run", "release", "shared_with"]
SERVER = Path(sys.executable).with_name("gridapps-server")


@pytest.fixture
def found(cast, make_run, tmp_path, settings):
    Node.objects.create(
        name="one", slots=4, cpus=4, memory=2**32, disk=2**33, version="1", started_at=timezone.now(),
        last_seen_at=timezone.now() - timedelta(minutes=5), engine_latency=0.25,
    )  # fmt: skip
    hooks.create(by=cast.analyst, target="https://example.org/", events=["run.started"])
    make_run(owner="analyst", points=(1,), age=7300)
    make_run(owner="developer", points=(1, 1), age=7200)
    first = claim()
    Node.objects.update(draining=True, stuck="Since noon: The engine does not remove the container x.")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "worker.held").touch()
    own = django_settings.GRIDAPPS.model_copy(update={"data": tmp_path})
    return first, status.examine(own)


def test_what_there_is(found):
    first, said = found
    assert said["parts"] == {"worker": False}
    (task,) = said["running"]
    assert (task["task"], task["node"], task["app"]) == (str(first.task), "one", "buildings")
    assert sum(each["count"] for each in said["queue"].values()) == 2
    assert said["nodes"][0]["running"] == 1
    assert said["faults"] == [
        "The part worker does not run: read log/worker.log.", "No node has a worker, so no task runs.",
    ]  # fmt: skip
    json.dumps(said)


def node(*, silent: int = 0, **changes: object) -> None:
    """A node that is well, but for these changes."""
    well = {"engine_latency": 0.1, "session": uuid4(), "free_disk": 2, "min_free_disk": 1}
    seen = timezone.now() - timedelta(seconds=silent)
    Node.objects.create(
        name="one", slots=4, cpus=4, memory=2**32, disk=2**33, version="1", started_at=timezone.now(),
        last_seen_at=seen, **well | changes,
    )  # fmt: skip


@pytest.fixture
def examined(db, tmp_path):
    """The faults of an instance with one part that runs."""
    (tmp_path / "run").mkdir()

    def examine(**settings: object) -> list[str]:
        with (tmp_path / "run" / "nginx.held").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            own = django_settings.GRIDAPPS.model_copy(update={"data": tmp_path, **settings})
            return status.examine(own)["faults"]

    return examine


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ""),
        ({"draining": True}, ""),
        (
            {"silent": 302},
            "The worker of node one has not reported for 5 min.",
        ),
        ({"engine_latency": None}, "The container engine of node one does not answer."),
        ({"free_disk": 0}, "Node one has 0 bytes of free disk, and 1 bytes have to stay free: "),
        ({"free_disk": None, "min_free_disk": None}, ""),
        ({"stuck": "Since noon."}, "A container is stuck on node one: Since noon."),
        ({"session": None}, "No node has a worker, so no task runs."),
    ],
)
def test_faults_of_a_node(examined, changes, fault):
    node(**changes)
    faults = examined()
    assert len(faults) == bool(fault), faults
    assert fault in "".join(faults)


def test_a_part_that_does_not_answer_is_a_fault(db, tmp_path):
    node()
    (tmp_path / "run").mkdir()
    part_states.write(
        tmp_path,
        {
            "nginx": PartState(restarts=0, silent_since=time.time() - 300),
            "courier": PartState(restarts=7, silent_since=None),
        },
        group=os.getegid(),
    )
    with contextlib.ExitStack() as stack:
        for name in ("courier", "nginx"):
            held = stack.enter_context((tmp_path / "run" / f"{name}.held").open("w"))
            fcntl.flock(held, fcntl.LOCK_SH)
        found = status.examine(django_settings.GRIDAPPS.model_copy(update={"data": tmp_path}))
    assert found["faults"] == ["The part nginx has not answered for 5 min."]
    assert "Parts     courier up, nginx SILENT" in "\n".join(status.lines(found))


def test_a_lease_that_ran_out_and_a_delivery_that_waits_are_faults(examined, cast, make_run):
    node()
    make_run(owner="analyst", points=(1,), age=7300)
    claim()
    hooks.create(by=cast.analyst, target="https://example.org/", events=["run.started"])
    assert examined() == []
    Task.objects.update(lease_until=timezone.now() - timedelta(minutes=5))
    assert examined() == ["The leases of 1 task have run out, and no worker gives them back."]


def test_no_part_and_a_disk_below_its_floor_are_faults(db, tmp_path, settings):
    node()
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"data": tmp_path, "min_free_disk": 2**60})
    no_part, disk = status.examine(settings.GRIDAPPS)["faults"]
    assert no_part == "No part was ever started in this data directory."
    assert "This machine has " in disk
    assert "pushes, imports and new tasks are refused" in disk
    assert "FAULT: No part" in "\n".join(status.lines(status.examine(settings.GRIDAPPS)))


def test_what_a_terminal_shows(found):
    text = "\n".join(status.lines(found[1]))
    for part in (
        "worker DOWN", "2 h", "one: 1/4 tasks, 1/4 processors, 0.0/4.0 GiB memory", "engine 250 ms",
        "seen 5 min ago, stopped, draining", "Running   1 task", "attempt 1, 0%",
        "Hooks     1 deliveries wait",
        "Stuck     on one: Since noon: The engine does not remove the container x.",
    ):  # fmt: skip
        assert part in text, text


def run(data: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    rest = {name: value for name, value in os.environ.items() if not name.startswith("GRIDAPPS_")}
    return subprocess.run(
        [str(SERVER), "status", *words], env=rest | {"GRIDAPPS_DATA": str(data)} | settings,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_database_that_is_away(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "instance-id").write_text("0f0f0f0f")
    away = {"GRIDAPPS_DATABASE": f"postgresql://nobody@{str(tmp_path).replace('/', '%2F')}/none"}
    done = run(tmp_path, **away)
    assert done.returncode == 1
    assert "Database  does not answer" in done.stdout
    assert "Traceback" not in done.stderr
    done = run(tmp_path, "--json", **away)
    found = json.loads(done.stdout)
    assert found["database"]
    assert found["faults"][-1].startswith("The database does not answer: ")


def test_no_instance_is_a_sentence(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1
    assert "no instance" in done.stderr
