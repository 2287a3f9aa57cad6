"""The recommended alerts, evaluated by Prometheus itself over what `/metrics` says."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from gridapps.processes import part_states
from gridapps.processes.part_states import PartState
from gridapps.runs import queue
from gridapps.runs.models import Node
from gridapps.runs.states import State
from tests.api.test_metrics import fresh, get, samples_of, token
from tests.runs.conftest import make_run, release, shared_with
from tests.runs.test_queue import claim

__all__ = ["fresh", "make_run", "release", "shared_with", "token"]
TOP = Path(__file__).parents[2]
RULES = TOP / "deploy" / "alerts.yml"
MINUTES = 30


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if not program:
        pytest.skip("this machine lacks prometheus: scripts/machine test")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def fires(directory: Path, alert: str, series: dict[str, str], *, minute: int) -> bool:
    """Whether the alert fires at this minute, given the values of the series, one per minute."""
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}],
    }
    path = directory / "test.yml"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [test]}))
    done = promtool("test", "rules", str(path))
    # No alert is expected: if there is one, the tool fails and prints it.
    assert done.returncode == 0 or "got:[" in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode != 0


def test_the_rules_are_valid() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_documentation_lists_the_rules() -> None:
    written = re.findall(r"expr: (.*)", RULES.read_text())
    section = (TOP / "docs" / "operations.md").read_text().split("deploy/alerts.yml")[-1].split("##")[0]
    assert re.findall(r"^\| `(.*?)`", section, re.MULTILINE) == written


NODE = 'gridapps_node_up{node="one"}'
SILENT = 'gridapps_node_silent_seconds{node="one"}'
FREE, FLOOR = "gridapps_free_disk_bytes", "gridapps_min_free_disk_bytes"
SHORT = {'free_disk_bytes{node="one"}': "1x30", 'min_free_disk_bytes{node="one"}': "2x30"}
ENGINE = 'gridapps_node_engine_seconds{node="one"}'


@pytest.mark.parametrize(
    ("alert", "series", "expected"),
    [
        ("GridAppsAway", {'up{job="gridapps",instance="x"}': "1x20 0x9"}, True),
        ("GridAppsAway", {'up{job="gridapps",instance="x"}': "1x28 0"}, False),
        ("GridAppsAway", {'up{job="gridapps",instance="x"}': "1x30"}, False),
        ("GridAppsWorkerSilent", {NODE: "1x30", SILENT: "5x20 300x10"}, True),
        ("GridAppsWorkerSilent", {NODE: "1x30", SILENT: "5x30"}, False),
        ("GridAppsWorkerSilent", {NODE: "0x30", SILENT: "300x30"}, False),
        ("GridAppsEngineSilent", {NODE: "1x30", ENGINE: "0.1x10 stale"}, True),
        ("GridAppsEngineSilent", {NODE: "1x30", ENGINE: "0.1x30"}, False),
        ("GridAppsEngineSilent", {NODE: "0x30"}, False),
        ("GridAppsPartHangs", {'gridapps_part_silent{part="nginx"}': "0x20 1x10"}, True),
        ("GridAppsPartHangs", {'gridapps_part_silent{part="nginx"}': "0x30"}, False),
        ("GridAppsPartHangs", {'gridapps_part_restarts_total{part="nginx"}': "0x10 1+1x20"}, True),
        ("GridAppsPartHangs", {'gridapps_part_restarts_total{part="nginx"}': "0x10 1x20"}, False),
        ("GridAppsContainerStuck", {'gridapps_node_stuck_containers{node="one"}': "1x40"}, True),
        ("GridAppsContainerStuck", {'gridapps_node_stuck_containers{node="one"}': "0x10 1x30"}, False),
        ("GridAppsDiskNearlyFull", {FREE: "9x20 1x9", FLOOR: "2x30"}, True),
        ("GridAppsDiskNearlyFull", {FREE: "9x30", FLOOR: "2x30"}, False),
        ("GridAppsDiskNearlyFull", {FREE: "9x30", FLOOR: "0x30"}, False),
        ("GridAppsDiskNearlyFull", {f"gridapps_node_{rest}": value for rest, value in SHORT.items()}, True),
        ("GridAppsQueueOld", {'gridapps_queue_oldest_seconds{user_class="user"}': "4000x30"}, True),
        ("GridAppsQueueOld", {'gridapps_queue_oldest_seconds{user_class="user"}': "10x30"}, False),
        ("GridAppsHooksOld", {"gridapps_hook_deliveries_oldest_seconds": "4000x30"}, True),
        ("GridAppsHooksOld", {"gridapps_hook_deliveries_oldest_seconds": "0x30"}, False),
    ],
)
def test_an_alert_fires_when_it_should(
    tmp_path: Path, alert: str, series: dict[str, str], expected: bool
) -> None:
    assert fires(tmp_path, alert, series, minute=MINUTES) is expected


@pytest.mark.django_db
@pytest.mark.parametrize(("reason", "expected"), [("platform", True), ("out-of-memory", False)])
def test_the_first_failure_of_the_platform_is_noticed(
    token: str, make_run: Any, tmp_path: Path, reason: str, expected: bool
) -> None:
    """The series are those of the instance: one that began with 1 would not be noticed."""
    before = samples_of(get(token))
    make_run()
    if reason == "platform":
        queue.release(claim=claim(), reason="platform", text="The disk broke.")
    else:
        queue.finish(claim=claim(), state=State.FAILURE, reason=reason, text="It took too much.")
    after = samples_of(get(token))
    assert before.keys() >= {name for name in after if "_ended_total" in name}
    series = {name: f"{before[name]:g}x20 {after[name]:g}x9" for name in after if "_ended_total" in name}
    assert fires(tmp_path, "GridAppsPlatformFails", series, minute=MINUTES - 5) is expected
    assert not fires(tmp_path, "GridAppsPlatformFails", series, minute=15)


@pytest.mark.django_db
def test_the_alerts_ask_for_metrics_that_there_are(token: str, tmp_path: Path, settings: Any) -> None:
    settings.DATA = tmp_path
    (tmp_path / "run").mkdir()
    states = {"nginx": PartState(restarts=2, silent_since=None)}
    part_states.write(tmp_path, states, group=os.getegid())
    Node.objects.create(
        name="one", slots=1, cpus=1, memory=1, disk=1, version="1", started_at=timezone.now(),
        last_seen_at=timezone.now(), engine_latency=0.1, free_disk=2, min_free_disk=1,
    )  # fmt: skip
    found = samples_of(get(token))
    assert (
        found['gridapps_part_restarts_total{part="nginx"}'],
        found['gridapps_part_silent{part="nginx"}'],
    ) == (2, 0)
    there = {name.partition("{")[0] for name in found}
    assert set(re.findall(r"gridapps_\w+", " ".join(re.findall(r"expr: (.*)", RULES.read_text())))) <= there
