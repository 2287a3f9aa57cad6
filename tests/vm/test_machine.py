"""Installation, a run of the demo, limits, kills and restarts on a machine with systemd."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gridapps.server import accounts
from tests.apps.conftest import buildings_image as buildings_image  # noqa: PLC0414 - a fixture
from tests.apps.conftest import city_tiles as city_tiles  # noqa: PLC0414 - a fixture
from tests.cluster.test_deploy import EXPOSED, UNITS
from tests.fixtures.engine import Engine
from tests.vm.conftest import DATA, TOP, Developer, server
from tests.vm.machine import Machine

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]
PROGRAM = Path(__file__).with_name("program.sh")
MIB = 1024**2
OPTIONS = ("--cpus", "1", "--memory", "64MiB", "--disk", "16MiB", "--time", "48h")


@pytest.fixture(scope="module")
def app(developer: Developer, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The App of program.sh."""
    image = engine.image(entrypoint=["/program"], files={"/program": (PROGRAM.read_bytes(), 0o755)})
    schema = tmp_path_factory.mktemp("schema") / "schema.json"
    schema.write_text('{"type": "object"}')
    developer.app("probe", image, "--arguments", str(schema), *OPTIONS)
    return "probe"


@pytest.fixture(scope="module")
def tile(developer: Developer, city_tiles: list[Path]) -> str:
    """An export of the file that TILE names, or of one of the demonstration."""
    return developer.upload(Path(os.environ.get("TILE", city_tiles[0])))


def test_the_control_groups_are_those_of_production(bare: Machine) -> None:
    assert bare.does("stat -f -c %T /sys/fs/cgroup").strip() == "cgroup2fs"
    shown = json.loads(bare.does("docker info --format '{{json .}}'"))
    assert (shown["CgroupDriver"], shown["CgroupVersion"]) == ("systemd", "2")
    assert "name=apparmor" in shown["SecurityOptions"]


def test_doctor_finds_nothing(machine: Machine) -> None:
    printed = machine.does(server("doctor"))
    assert "engine's memory" in printed
    assert "a file system of its own" in printed
    assert not re.search("^(warn|FAULT)", printed, re.MULTILINE), printed


@pytest.mark.parametrize("unit", UNITS)
def test_a_running_unit_is_confined(machine: Machine, unit: str, record_property: Any) -> None:
    shown = machine.does(f"systemd-analyze security --no-pager {unit}")
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    assert score
    record_property("exposure", score[1])
    print(f"{unit}: {score[1]}")
    assert float(score[1]) <= EXPOSED[unit], shown


def test_each_part_has_its_account(machine: Machine) -> None:
    shown = machine.does("ps -e -o user:40= -o args=")
    for role in accounts.GROUPS.keys() - {"scanner"}:  # no scanner is set
        assert re.search(rf"^{accounts.name(role)} ", shown, re.MULTILINE), f"{role}\n{shown}"
    roots = [line for line in shown.splitlines() if line.startswith("root ") and "gridapps" in line]
    assert sorted("launcher" in line for line in roots if "supervisor" not in line) == [True], roots


def test_the_journal_has_the_messages_of_the_units(machine: Machine) -> None:
    assert "GRiD Apps is up" in machine.does("journalctl -u gridapps -o cat")
    for unit in ("gridapps-launcher", "gridapps-worker"):
        lines = machine.does(f"journalctl -u {unit} -o cat")
        assert "Traceback" not in lines
    denied = machine.does("journalctl -b -k -o cat | grep -i 'apparmor=\"DENIED\"' || true")
    assert denied == ""


def test_the_demonstrations_app_runs(developer: Developer, tile: str, buildings_image: str) -> None:
    schema = str(TOP / "apps/buildings/schema.json")
    developer.app("buildings", buildings_image, "--arguments", schema, "--memory", "1GiB", "--time", "48h")
    run = developer.ended(developer.submit("buildings", tile, "--argument", "resolution=2"))
    assert run["state"] == "SUCCESS", run
    assert developer.call("outputs", "list", run["id"])["outputs"]


def test_limits_from_inside(developer: Developer, app: str, tile: str) -> None:
    run = developer.ended(developer.submit(app, tile, "--argument", "do=show"))
    assert run["state"] == "SUCCESS", run
    assert developer.output(run["id"], "type.txt").split()[2] == "cgroup2"
    limits = dict(line.split(" ", 1) for line in developer.output(run["id"], "limits.txt").splitlines())
    assert limits["memory.max"] == str(64 * MIB)
    assert limits["memory.swap.max"] == "0"
    assert limits["cpu.max"] == "100000 100000"
    assert 0 < int(limits["pids.max"]) < 1000


@pytest.mark.parametrize(("does", "reason"), [("eat", "out-of-memory"), ("fork", "out-of-processes")])
def test_a_program_that_reaches_a_limit(
    developer: Developer, app: str, tile: str, does: str, reason: str
) -> None:
    run = developer.ended(developer.submit(app, tile, "--argument", f"do={does}"))
    assert (run["state"], run["tasks"][0]["reason"]) == ("FAILURE", reason), run


@pytest.fixture
def waiting(developer: Developer, app: str, tile: str) -> Iterator[str]:
    """A run whose program waits until its `sleep` is killed."""
    run = developer.submit(app, tile, "--argument", "do=wait")
    developer.machine.until("pgrep -f '[s]leep 86399'")
    yield run
    developer.machine.run("pkill -f '[s]leep 86399'")


def _ends_well(developer: Developer, run: str, *, attempts: int = 1) -> None:
    """The program goes on and ends, after this many attempts."""
    developer.machine.until("pkill -f '[s]leep 86399'")
    shown = developer.ended(run)
    assert shown["state"] == "SUCCESS", shown
    assert len(shown["tasks"][0]["attempts"]) == attempts, shown
    assert developer.output(run, "started.txt") == "started\n"


def test_the_slice_above_all_containers_has_limits(developer: Developer, waiting: str) -> None:
    machine = developer.machine
    slice_ = f"gridapps_{machine.does(f'cat {DATA}/instance-id').strip()}.slice"
    shown = machine.does(f"systemctl show -p MemoryMax -p TasksMax -p ActiveState {slice_}").split()
    values = dict(line.split("=") for line in shown)
    total = int(machine.does("getconf _PHYS_PAGES")) * 4096
    assert total // 2 < int(values["MemoryMax"]) < total
    assert int(values["TasksMax"]) == 32768
    assert values["ActiveState"] == "active"
    process = machine.does("pgrep -f '[s]leep 86399'").split()[0]
    assert f"/{slice_}/docker-" in machine.does(f"cat /proc/{process}/cgroup")
    _ends_well(developer, waiting)


@pytest.mark.parametrize("unit", ["gridapps-worker", "gridapps-launcher", "gridapps"])
def test_a_part_is_killed_and_the_container_goes_on(developer: Developer, waiting: str, unit: str) -> None:
    machine = developer.machine
    before = machine.does(f"systemctl show -p MainPID --value {unit}").strip()
    container = machine.does("docker ps -q")
    machine.does(f"kill -9 {before}")
    machine.until(f"test $(systemctl show -p MainPID --value {unit}) -ne 0 -a "
                  f"$(systemctl show -p MainPID --value {unit}) -ne {before}")  # fmt: skip
    machine.until(server("status"))
    assert machine.does("docker ps -q") == container
    _ends_well(developer, waiting)


def test_a_restart_of_all_units_leaves_the_container(developer: Developer, waiting: str) -> None:
    machine = developer.machine
    container = machine.does("docker ps -q")
    machine.does("systemctl restart gridapps gridapps-launcher gridapps-worker")
    machine.until(server("status"))
    assert machine.does("docker ps -q") == container
    _ends_well(developer, waiting)


def test_a_reboot_runs_the_task_again(developer: Developer, waiting: str) -> None:
    developer.machine.reboot()
    developer.machine.until(server("status"))
    developer.machine.until("pgrep -f '[s]leep 86399'")
    _ends_well(developer, waiting, attempts=2)
