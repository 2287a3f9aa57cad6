"""Each fault of hostile.c over the whole path: it ends in time, with the right reason, and does no harm."""

import hashlib
import re
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gridapps.sandbox.workspace import USERS
from tests.hostile.conftest import MAX_LOG, Campaign, settled
from tests.hostile.faults import FAULTS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]  # the first test waits for the whole campaign


@pytest.mark.parametrize("name", FAULTS)
def test_it_ends_in_time_for_the_right_reason_and_keeps_what_it_may(campaign: Campaign, name: str):
    fault, shown = FAULTS[name], campaign.ended(name)
    assert (shown["state"], shown["reason"]) == (fault.state, fault.reason), shown["reason_text"]
    assert fault.words in shown["reason_text"]
    assert shown["task"]["exit_code"] == fault.exit_code
    assert len(shown["task"]["attempts"]) == 1, "what a program does itself is not tried again"
    assert _seconds(shown) < fault.time + fault.grace
    if name != "forged-progress":  # it writes no before.txt
        assert campaign.outputs(name)["before.txt"] == len("made before the fault\n")
        assert "made before the fault" in campaign.log(name)


def _seconds(shown: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(shown[f"{name}_at"]) for name in ("started", "ended"))
    return (ended - began).total_seconds()


@pytest.mark.parametrize("name", ["log-flood", "log-short-lines", "log-long-line"])
def test_a_flooded_log_keeps_its_beginning_and_its_end(campaign: Campaign, name: str):
    log = campaign.log(name)
    assert log[0] == "made before the fault"
    assert log[-1] == "the last line"
    assert any("bytes of the log are left out" in line for line in log)
    assert sum(len(line) for line in log) <= MAX_LOG


def test_a_log_is_text_that_nothing_obeys(campaign: Campaign):
    log = campaign.log("log-bytes")
    raw = campaign.developer.log(campaign.runs["log-bytes"])
    assert all(line.isprintable() for line in log), log
    assert "\x1b" not in raw
    assert "\u202e" not in raw
    assert "2001-01-01T00:00:00.000000Z forged prefix" in log
    stamps = [line.split(" ")[1] for line in raw.splitlines()]
    assert not [stamp for stamp in stamps if stamp.startswith("2001")]
    with campaign.developer.client() as client:
        answer = client.get(f"/api/v3/runs/{campaign.runs['log-bytes']}/log")
        assert answer.headers["Content-Type"].startswith("text/plain")
        path = f"/api/v3/runs/{campaign.runs['log-bytes']}/log?follow=1"
        followed = client.get(path).text
    events = [line for line in followed.splitlines() if line.startswith("event:")]
    assert len([line for line in events if "end" in line]) == 1, "a program can send no event of its own"


def test_progress_that_is_forged_changes_no_state(campaign: Campaign):
    shown = campaign.ended("forged-progress")
    assert shown["task"]["progress"] <= 1
    assert shown["message"] in ("done", "")
    assert [line for line in campaign.log("forged-progress") if '"progress": 2' in line]


def test_links_out_of_grid_are_left_out(campaign: Campaign):
    assert set(campaign.outputs("links")) == {"before.txt", "hard-link", "to-a-file"}
    left_out = {item["path"]: item["why"] for item in campaign.ended("links")["task"]["left_out"]}
    links = (
        "shadow",
        "root",
        "init-root",
        "status",
        "arguments",
        "up",
        "a",
        "b",
        "self",
        "passwd",
        "stdout.txt",
    )
    for name in links:
        assert "symbolic link" in left_out[name], name


def test_of_special_files_nothing_but_the_content_is_taken(campaign: Campaign):
    tried, outputs = campaign.tried("special-files"), campaign.outputs("special-files")
    assert tried["block-device"] == tried["char-device"] == "EPERM"
    assert set(outputs) == {"before.txt", "stdout.txt", "setuid"}
    left_out = {item["path"]: item["why"] for item in campaign.ended("special-files")["task"]["left_out"]}
    assert "named pipe" in left_out["fifo"]
    assert "socket" in left_out["socket"]
    stored = campaign.stored("special-files") / "setuid"
    assert oct(stored.stat().st_mode & 0o7777) == "0o640"


def test_of_a_deep_tree_the_top_is_taken(campaign: Campaign):
    outputs = campaign.outputs("deep")
    assert set(outputs) == {"before.txt", "stdout.txt", "d/" * 4 + "file.txt", "d/" * 104 + "file.txt"}
    assert "deeper than 128" in campaign.ended("deep")["task"]["left_out"][0]["why"]


def test_names_that_mislead_are_left_out(campaign: Campaign):
    outputs = campaign.outputs("names")
    odd = {"-rf", "%2e%2e%2f", "<b>&\"'", "~", "*", "n" * 255, "...", ".. ", " ", "..\\up", "c:\\x"}
    assert odd <= set(outputs)
    assert not [name for name in outputs if "\n" in name or "\x1b" in name or "\u202e" in name]
    left_out = campaign.ended("names")["task"]["left_out"]
    assert len(left_out) == 6
    assert len([item for item in left_out if "Windows" in item["why"]]) == 1
    assert all(item["path"].isprintable() for item in left_out)
    for name in ("~", "%2e%2e%2f", "*"):
        assert campaign.developer.output(campaign.runs["names"], f"0/{name.replace('%', '%25')}") == b"x"


def test_what_is_closed_is_taken_all_the_same(campaign: Campaign):
    assert {"closed.txt", "closed/file.txt"} <= set(campaign.outputs("closed"))
    tried = campaign.tried("closed")
    assert tried["grid-itself"] == "ok", "/grid belongs to the program"
    assert tried["grid-away"] != "ok"


def test_writers_are_gone_before_anything_is_taken(campaign: Campaign):
    run = campaign.runs["changing"]
    listed = campaign.developer.ask("GET", f"/runs/{run}/outputs").json()["outputs"]
    for output in listed:
        content = campaign.developer.output(run, output["path"])
        assert hashlib.sha256(content).hexdigest() == output["sha256"], output["path"]


def test_of_too_many_files_as_many_as_may_be_are_taken(campaign: Campaign):
    assert len(campaign.outputs("million-files")) == 10_000
    task = campaign.ended("million-files")["task"]
    assert len(task["left_out"]) == 100
    assert 1000 < task["left_out_count"] < 3000


@pytest.mark.parametrize("name", ["write-input", "disk-root", "kernel-files", "attack-init"])
def test_system_calls_that_are_not_allowed_fail(campaign: Campaign, name: str):
    tried = campaign.tried(name)
    allowed = {"attack-init": {"prlimit-own"}}.get(name, set())
    assert len(tried) > 5
    assert {what for what, result in tried.items() if result == "ok"} == allowed


def test_no_call_that_could_harm_the_kernel_gets_through(campaign: Campaign):
    tried = campaign.tried("kernel-calls")
    assert len(tried) == 21
    assert {what for what, result in tried.items() if result == "ok"} == set()


def test_the_input_is_as_it_was(campaign: Campaign):
    campaign.ended("write-input")
    stored = [path for path in (campaign.instance.data / "exports").rglob("*") if path.is_file()]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in stored}
    assert hashlib.sha256(campaign.file.read_bytes()).hexdigest() in digests


def test_nobody_can_be_reached(campaign: Campaign):
    tried = campaign.tried("network")
    places = {name: result for name, result in tried.items() if not name.startswith("family-")}
    assert len(places) == 10
    assert "ok" not in places.values()
    families = {name.split("-")[1] for name in tried if name.startswith("family-")}
    assert families <= {"1", "2", "10", "16"}, "UNIX, INET, INET6 and NETLINK, in a network of its own"


def test_a_child_that_dies_of_memory_is_not_the_program(campaign: Campaign):
    assert campaign.tried("memory-child")["child"] == "KILL"


def test_an_image_can_make_nobody_root(campaign: Campaign):
    tried = campaign.tried("identity")
    assert int(tried["uid"]) in USERS
    assert tried["effective"] == tried["uid"]


def test_who_ignores_everything_is_canceled_all_the_same(campaign: Campaign):
    run = campaign.submit(replace(FAULTS["ignore-term"], time=600))
    campaign.developer.wait_for_progress(run)
    campaign.developer.ask("POST", f"/runs/{run}/cancel", expect=202)
    assert campaign.developer.wait(run, "CANCELED", seconds=30)["reason"] == "canceled"


def test_afterwards_the_host_is_as_it_was(campaign: Campaign):
    """This test is here, after those of single faults, because it waits for all runs."""
    for name in FAULTS:
        campaign.ended(name)
    after = settled(campaign)
    assert (after.processes, after.loops, after.containers, after.mounts) == (0, 0, 0, 0)
    kept = sum(file.stat().st_blocks * 512 for file in (campaign.instance.data / "outputs").rglob("*"))
    assert kept < len(FAULTS) * (16 + 4) * 1024**2, "outputs and logs have their limits"
    assert not [path for path in (campaign.instance.data / "scratch").glob("*") if path.is_dir()]


MANY = 100_000
MAKE_MANY = """
import sys
from pathlib import Path
import django
django.setup()
from gridapps.runs.models import Output, Task
task = Task.objects.get(run=sys.argv[1])
made = []
for number in range(int(sys.argv[3])):
    path = f"many/{number // 1000}/{number}.txt"
    file = Path(sys.argv[2]) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    made.append(Output(task=task, path=path, size=0, sha256="0" * 64, media_type="text/plain"))
Output.objects.bulk_create(made, batch_size=5000)
"""


def test_very_many_outputs_are_downloaded_at_once(campaign: Campaign, tmp_path: Path):
    """Ten tasks may leave that many. The test creates the files itself, because it is about the download."""
    run, instance = campaign.runs["close-input"], campaign.instance
    campaign.ended("close-input")
    environment = {**instance.environment, "DJANGO_SETTINGS_MODULE": "gridapps.config.settings"}
    words = [sys.executable, "-c", MAKE_MANY, run, str(campaign.stored("close-input")), str(MANY)]
    subprocess.run(words, env=environment, check=True)
    application = instance.part("application")
    before = _memory(application)
    slowest = 0.0
    with (
        campaign.developer.client() as client,
        (tmp_path / "all.zip").open("wb") as file,
        client.stream("GET", f"/api/v3/runs/{run}/outputs.zip") as answer,
    ):
        assert answer.status_code == 200
        for number, piece in enumerate(answer.iter_raw()):
            file.write(piece)
            if number % 50 == 0:
                asked = time.monotonic()
                campaign.developer.ask("GET", "/me")
                slowest = max(slowest, time.monotonic() - asked)
    assert int(answer.headers["Content-Length"]) == (tmp_path / "all.zip").stat().st_size
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert len(archive.infolist()) == MANY + 2
    assert _memory(application) - before < 128 * 1024
    assert slowest < 10, "others wait for it"


def _memory(process: int) -> int:
    """The peak memory of a process so far, in KiB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB", text, re.M)[0])
