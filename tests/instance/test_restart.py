"""Stops, kills and second starts: nothing is lost, nothing completes twice, nothing stays behind."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridapps.processes import part_states
from tests.fixtures.instance import SERVER, Instance, MakeInstance, new_instance
from tests.instance.conftest import SetStage, Stage

pytestmark = pytest.mark.system


def _stage_of_module(set_stage: SetStage, on_stop: str) -> Iterator[Stage]:
    instance = new_instance(on_stop=on_stop)
    try:
        instance.start()
        yield set_stage(instance)
    finally:
        instance.remove()


@pytest.fixture(scope="module")
def _leaving(set_stage: SetStage) -> Iterator[Stage]:
    yield from _stage_of_module(set_stage, "leave")


@pytest.fixture(scope="module")
def _putting_back(set_stage: SetStage) -> Iterator[Stage]:
    yield from _stage_of_module(set_stage, "requeue")


def _up(stage: Stage) -> Stage:
    if not stage.instance.running:
        stage.instance.start()
    return stage


@pytest.fixture
def leaving(_leaving: Stage) -> Stage:
    """A running instance whose worker leaves its containers running when it stops."""
    return _up(_leaving)


@pytest.fixture
def putting_back(_putting_back: Stage) -> Stage:
    """A running instance whose worker puts its tasks back when it stops."""
    return _up(_putting_back)


def _assert_nothing_runs(instance: Instance) -> None:
    end = time.monotonic() + 20
    while found := instance.processes():
        assert time.monotonic() < end, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found]
        time.sleep(0.1)


def _begun(stage: Stage, run: str) -> int:
    """How often the program of the attempt that won had begun."""
    return len(stage.developer.output(run, "0/started.txt").splitlines())


def test_a_stop_leaves_containers_and_the_next_start_adopts_them(leaving: Stage, containers_of):
    stage = leaving
    run = stage.submit("sleep", seconds=8)
    stage.developer.wait_for_progress(run)
    before = containers_of(stage.instance)
    assert stage.instance.stop() == 0
    _assert_nothing_runs(stage.instance)
    assert containers_of(stage.instance) == before != []
    stage.instance.start()
    shown = stage.developer.wait(run, "SUCCESS")
    assert len(shown["tasks"][0]["attempts"]) == 1
    assert _begun(stage, run) == 1
    # The end is told first, and the container removed after it.
    stage.instance.wait_until(lambda: containers_of(stage.instance) == [], what="removed its container")


def test_what_ended_while_nobody_looked_is_collected(leaving: Stage):
    stage = leaving
    run = stage.submit("sleep", seconds=3)
    stage.developer.wait_for_progress(run)
    stage.instance.stop()
    time.sleep(4)
    stage.instance.start()
    shown = stage.developer.wait(run, "SUCCESS")
    assert len(shown["tasks"][0]["attempts"]) == 1
    assert "end" in stage.developer.log(run)


def test_a_stop_puts_tasks_back_and_the_next_start_runs_them(putting_back: Stage, containers_of):
    stage = putting_back
    run = stage.submit("sleep", seconds=5)
    stage.developer.wait_for_progress(run)
    stage.instance.stop()
    assert containers_of(stage.instance) == []
    stage.instance.start()
    stage.developer.wait(run, "SUCCESS")
    assert _begun(stage, run) == 1


def test_a_killed_worker_comes_back_and_adopts(leaving: Stage):
    stage = leaving
    run = stage.submit("sleep", seconds=6)
    stage.developer.wait_for_progress(run)
    killed = stage.instance.part("worker")
    os.kill(killed, signal.SIGKILL)
    shown = stage.developer.wait(run, "SUCCESS")
    assert stage.instance.part("worker") != killed
    assert len(shown["tasks"][0]["attempts"]) == 1
    assert _begun(stage, run) == 1


def test_every_part_that_is_killed_comes_back(putting_back: Stage):
    stage = putting_back
    names = (
        *("registry", "trusted", "application", "nginx", "worker", "courier", "promoter", "housekeeper"),
        "importer",
    )
    killed = {name: stage.instance.part(name) for name in names}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        return all(stage.instance.find(name) not in (None, killed[name]) for name in names)

    stage.instance.wait_until(back, what="back")
    stage.instance.wait_until(stage.instance.answers, what="answering again")
    again = {name: stage.instance.part(name) for name in names}
    time.sleep(2)
    assert {name: stage.instance.part(name) for name in names} == again, "a part does not stay up"
    run = stage.submit("summary")
    stage.developer.wait(run, "SUCCESS")


def test_every_part_that_is_stopped_is_started_again(make_instance: MakeInstance):
    """Nothing else would notice: a stopped process keeps its sockets, and connections to it succeed."""
    instance = make_instance(part_timeout=15)
    instance.start()
    instance.wait_until(lambda: instance.find("worker"), what="whole")
    names = (
        "registry",
        "trusted",
        "application",
        "application-2",
        "nginx",
        "courier",
        "promoter",
        "importer",
    )
    stopped = {name: instance.part(name) for name in (*names, "housekeeper", "launcher", "worker")}
    for pid in stopped.values():
        os.kill(pid, signal.SIGSTOP)
    instance.wait_until(
        lambda: "SILENT" in instance.run_server_command("status", check=False), what="shown as silent"
    )
    instance.wait_until(
        lambda: all(instance.find(name) not in (None, pid) for name, pid in stopped.items()), what="back"
    )
    instance.wait_until(instance.answers, what="answering again")
    instance.wait_until(
        lambda: "All is well." in instance.run_server_command("status", check=False), what="well"
    )
    assert {state.restarts for state in part_states.read(instance.data).values()} == {1}


def test_a_killed_instance_takes_its_parts_along_and_starts_again(leaving: Stage):
    stage = leaving
    run = stage.submit("sleep", seconds=6)
    stage.developer.wait_for_progress(run)
    stage.instance.kill()
    _assert_nothing_runs(stage.instance)
    stage.instance.start()
    shown = stage.developer.wait(run, "SUCCESS")
    assert len(shown["tasks"][0]["attempts"]) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_running(putting_back: Stage, containers_of, number):
    stage = putting_back
    run = stage.submit("sleep", seconds=60)
    stage.developer.wait_for_progress(run)
    assert stage.instance.stop(number) == 0
    _assert_nothing_runs(stage.instance)
    assert containers_of(stage.instance) == []
    assert str(stage.instance.data) not in Path("/proc/self/mounts").read_text()
    assert "Stopped" in stage.instance.printed.read_text()


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.8])
def test_an_interrupt_in_the_middle_of_the_start_leaves_nothing(make_instance: MakeInstance, seconds):
    instance = make_instance()
    process = subprocess.Popen(
        [SERVER, "up"], env=instance.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    process.wait(240)  # the start goes on to the end of its migrations
    _assert_nothing_runs(instance)


def test_a_second_start_beside_the_first_is_refused(instance: Instance, stage: Stage):
    assert "is running already" in instance.run_server_command("up", check=False)
    stage.developer.wait(stage.submit("summary"), "SUCCESS")
