"""The worker with the fake sandbox: every way in which an attempt can end, and what the next worker does."""

import json
import os
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from gridapps.access.models import User
from gridapps.exports.models import ExportFile
from gridapps.housekeeping import output_files
from gridapps.pki.tokens import Registry
from gridapps.pushes import references
from gridapps.runs import omissions, operations, overview, queries, queue, worker_bell
from gridapps.runs.errors import Conflict, NodeTaken
from gridapps.runs.models import Node as NodeRow
from gridapps.runs.models import Run, Task
from gridapps.runs.states import TERMINAL, State
from gridapps.runs.store import AttemptFiles
from gridapps.sandbox.fake import Call, Ending, FakeSandbox, Program
from gridapps.sandbox.protocol import ContainerStuck, NoSpace, PullProgress, SandboxError, Unexplained
from gridapps.worker import clearing, container_watch, engine_watch, execution, patience, preparation, worker
from gridapps.worker.leases import LeaseKeeper
from gridapps.worker.local_node import LocalNode
from gridapps.worker.node_images import NodeImages
from gridapps.worker.running import RunningAttempts
from gridapps.worker.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(container_watch, "LOOK", 0.02)
    monkeypatch.setattr(patience, "PAUSE", 0.05)
    monkeypatch.setattr(container_watch, "GRACE", 0.2)
    monkeypatch.setattr(execution, "PAUSE", 0.05)
    monkeypatch.setattr(worker, "BEAT", 0.02)
    monkeypatch.setattr(engine_watch, "WATCH", 0.1)


@pytest.fixture
def stage(settings, tmp_path, make_run, release):
    settings.DATA = tmp_path
    for name in ("exports", "outputs"):
        (tmp_path / name).mkdir()
    return Stage(tmp_path, make_run, references.pull_of(release, Registry.TRUSTED).reference)


def node_of(sandbox, data, *, keep_images=0):
    images_there = NodeImages(data / "images", sandbox=sandbox, limit=keep_images)
    return LocalNode(name="one", instance="test", sandbox=sandbox, images=images_there, max_log=10**6)


class Stage:
    """A node with a fake engine, and runs whose input files exist."""

    def __init__(self, data, make_run, image):
        self.data = data
        self.programs: dict[str, Program] = {}
        self.image = image
        self._make_run = make_run
        self.sandbox = FakeSandbox(scratch=data / "scratch", programs=self.programs)

    def run(self, program, *, files=1):
        self.programs[self.image] = program
        with transaction.atomic():
            run = self._make_run(points=(100,) * files)
            for file in ExportFile.objects.filter(export=run.export):
                path = self.data / "exports" / f"{file.pk}.laz"
                path.write_bytes(b"x")
                ExportFile.objects.filter(pk=file.pk).update(path=path.name)
        worker_bell.ring()
        return run

    @contextmanager
    def worker(self, *, on_stop="requeue", slots=2, keep_images=0):
        node = node_of(self.sandbox, self.data, keep_images=keep_images)
        mine = Worker(
            sweep=output_files.sweep,
            node=node,
            slots=slots,
            lease=timedelta(seconds=60),
            on_stop=on_stop,
            lock=self.data / "one.lock",
        )
        (self.data / "run").mkdir(exist_ok=True)
        thread = threading.Thread(target=mine.run)
        thread.start()
        try:
            yield mine
        finally:
            mine.stop()
            thread.join(30)
            assert not thread.is_alive()

    def residents(self):
        return self.sandbox.residents(labels={})


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def ended(run):
    run.refresh_from_db()
    return run.state in TERMINAL


def running(run):
    return Task.objects.filter(run=run, state=State.RUNNING, deadline__isnull=False).exists()


def said(place):
    return [line.partition(" ")[2] for line in place.log.read_text().splitlines()]


def sleeper(call: Call) -> int:
    call.stderr.write(b"asleep\n")
    return 0 if not call.canceled.wait(30) else 143


def test_a_program_gets_its_arguments_and_leaves_log_progress_and_outputs(stage):
    def program(call: Call) -> int:
        call.stdout.write(call.arguments)
        call.stderr.write(b'hello\n{"progress": 0.5, "message": "half"}\nbye\n')
        (call.output / "sub").mkdir()
        (call.output / "sub" / "dtm.tif").write_bytes(call.input.read_bytes())
        return 0

    with stage.worker():
        run = stage.run(program, files=3)
        until(lambda: ended(run))
    assert (run.state, run.progress) == (State.SUCCESS, 1)
    outputs = {(o.task.index, o.path) for o in queries.outputs(run)}
    assert outputs == {(i, path) for i in range(3) for path in ("stdout.txt", "sub/dtm.tif")}
    place = AttemptFiles(run.pk, 1, 1)
    assert json.loads((place.files / "stdout.txt").read_text()) == {}
    assert said(place) == ["hello", "bye"]
    assert stage.residents() == []


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (Ending(exit_code=3), "program-failed"),
        (Ending(exit_code=137, out_of_memory=True), "out-of-memory"),
        (Ending(exit_code=1, out_of_disk=True), "out-of-disk"),
        (Ending(exit_code=127, not_started="There is no /nothing."), "image-refused"),
    ],
)
def test_a_programs_own_failure_is_final_and_keeps_its_outputs(stage, ending, reason):
    def program(call: Call) -> int:
        (call.output / "partial").write_text("half")
        call.stdout.write(b"ERROR 7: no ground\n")
        call.stderr.write(b"giving up\n")
        raise ending

    with stage.worker():
        run = stage.run(program)
        until(lambda: ended(run))
    task = run.tasks.get()
    assert (task.state, task.reason, task.attempt) == (State.FAILURE, reason, 1)
    assert task.outputs.filter(path="partial").exists()
    assert (run.reason, run.reason_text) == (reason, task.reason_text)
    quoted = run.reason_text.endswith("Its log ends: giving up Its standard output ends: ERROR 7: no ground")
    assert quoted == (not ending.not_started), run.reason_text


def test_a_success_whose_outputs_are_incomplete_is_a_failure_that_names_them(stage):
    """The program saw no fault, so only the platform can say that something is missing."""

    def program(call: Call) -> int:
        (call.output / "kept").write_text("kept")
        for number in range(120):
            (call.output / f"{number:03}-NUL").mkdir()
            (call.output / f"{number:03}-NUL" / "nul").write_text("lost")
        os.mkfifo(call.output / "pipe")
        return 0

    with stage.worker():
        run = stage.run(program)
        until(lambda: ended(run))
    task = run.tasks.get()
    assert (task.state, task.reason, task.exit_code) == (State.FAILURE, "outputs-incomplete", 0)
    assert (
        "120 of its files could not be kept: 000-NUL/nul has the name of a Windows device;" in run.reason_text
    )
    assert "and 117 more. The 2 others can be downloaded." in run.reason_text
    assert {output.path for output in queries.outputs(run)} == {"stdout.txt", "kept"}
    assert (task.left_out_count, len(task.left_out)) == (121, 100)
    left_out = omissions.left_out_of_run(run)
    assert (left_out.count, len(left_out.first), left_out.unnamed) == (121, 100, 21)
    assert left_out.first[0].lost


def test_omissions_without_content_do_not_fail_a_task(stage):
    def program(call: Call) -> int:
        os.mkfifo(call.output / "pipe")
        (call.output / "v1").mkdir()
        (call.output / "latest").symlink_to("v1")
        return 0

    with stage.worker():
        run = stage.run(program)
        until(lambda: ended(run))
    assert (run.state, run.reason) == (State.SUCCESS, "")
    assert {(each.path, each.lost) for each in omissions.left_out_of_run(run).first} == {
        ("pipe", False),
        ("latest", False),
    }


def test_an_interrupted_container_is_tried_again(stage):
    tries = []

    def program(_call: Call) -> int:
        tries.append(1)
        if len(tries) < 3:
            raise Ending(exit_code=137, interrupted=True)
        return 0

    with stage.worker():
        run = stage.run(program)
        until(lambda: ended(run))
    assert run.state == State.SUCCESS
    assert [a.reason for a in run.tasks.get().attempts.all()] == ["platform", "platform", ""]


def test_cancel_ends_the_container_first(stage):
    with stage.worker():
        run = stage.run(sleeper)
        until(lambda: running(run))
        operations.cancel(by=run.owner, run=run)
        until(lambda: ended(run))
        assert run.state == State.CANCELED
        assert not any(resident.running for resident in stage.residents())


class Starts:
    """A program that counts its starts."""

    count = 0

    def __call__(self, _call):
        self.count += 1
        return 0


class HeldPull:
    """A pull of which half has arrived, and that ends when the test says so."""

    def __init__(self, stage, monkeypatch):
        self.questions = 0
        self.arrived = threading.Event()
        self._pull = stage.sandbox.pull
        monkeypatch.setattr(preparation, "ASK", 0.02)
        monkeypatch.setattr(stage.sandbox, "pull", self)

    def __call__(self, image, *, token, timeout):
        self.questions += 1
        if self.arrived.wait(timeout):
            return self._pull(image, token=token, timeout=timeout)
        return PullProgress(done=700 * 1024**2, total=1400 * 1024**2)


def test_run_shows_its_pull_and_a_cancel_ends_it(stage, monkeypatch):
    """No program starts after a cancel, and nothing waits for the registry."""
    held, started = HeldPull(stage, monkeypatch), Starts()
    with stage.worker():
        run = stage.run(started)
        until(lambda: Task.objects.get(run=run).message == "Pulling the image: 700 of 1400 MiB.")
        operations.cancel(by=run.owner, run=run)
        until(lambda: ended(run))
        asked = held.questions
        held.arrived.set()
    assert (run.state, run.reason, started.count) == (State.CANCELED, "canceled", 0)
    assert held.questions == asked, "it is abandoned"
    assert stage.residents() == []


def test_a_worker_that_stops_does_not_wait_for_a_pull(stage, monkeypatch):
    held, started = HeldPull(stage, monkeypatch), Starts()
    with stage.worker():
        run = stage.run(started)
        until(lambda: "Pulling" in Run.objects.get(pk=run.pk).message)
    task = Task.objects.get(run=run)
    assert (task.state, started.count) == (State.QUEUED, 0)
    held.arrived.set()
    with stage.worker():
        until(lambda: ended(run))
    assert (run.state, run.message, started.count) == (State.SUCCESS, "", 1)


def test_no_program_starts_after_a_cancel_that_its_worker_has_not_read(stage, monkeypatch):
    """The last check is in the database: the heartbeat that passes cancels on comes every second."""
    started, prepare = Starts(), preparation.Preparation.specification

    def cancel_first(self, *rest):
        launch = prepare(self, *rest)
        operations.cancel(by=run.owner, run=run)
        return launch

    monkeypatch.setattr(queue, "cancel_requested", lambda **_words: set())
    monkeypatch.setattr(preparation.Preparation, "specification", cancel_first)
    with stage.worker():
        with transaction.atomic():  # the worker sees it when `run` has a value
            run = stage.run(started)
        until(lambda: ended(run))
    assert (run.state, run.reason, started.count) == (State.CANCELED, "canceled", 0)


def test_a_program_that_ended_before_the_cancel_came_through_is_not_canceled(stage):
    with stage.worker():
        run = stage.run(lambda _call: 0)
        until(lambda: ended(run))
    assert run.state == State.SUCCESS


def test_the_deadline_ends_a_run(stage):
    run = stage.run(sleeper)
    Run.objects.update(time=1)
    with stage.worker():
        until(lambda: ended(run))
    assert (run.state, run.reason) == (State.FAILURE, "out-of-time")


def test_an_image_that_is_gone_is_a_reason(stage):
    run = stage.run(sleeper)
    stage.programs.clear()
    with stage.worker():
        until(lambda: ended(run))
    assert (run.state, run.reason) == (State.FAILURE, "image-refused")


def test_an_image_that_somebody_removes_before_the_start_is_pulled_again(stage, monkeypatch):
    pull, pulls = stage.sandbox.pull, []

    def pull_in_vain(image, **words):
        pull(image, **words)
        pulls.append(image)
        if len(pulls) == 1:
            stage.sandbox.drop(image)

    monkeypatch.setattr(stage.sandbox, "pull", pull_in_vain)
    with stage.worker():
        run = stage.run(lambda _call: 0)
        until(lambda: ended(run))
    assert run.state == State.SUCCESS
    assert [attempt.reason for attempt in run.tasks.get().attempts.all()] == ["platform", ""]


def test_an_image_that_is_not_used_goes_and_comes_again(stage):
    stage.sandbox.sizes = {stage.image: {"layer": 2}}
    with stage.worker(keep_images=1):
        for _ in range(2):
            run = stage.run(sleeper)
            until(lambda run=run: running(run))
            assert stage.sandbox.layers(stage.image), "its container has it"
            operations.cancel(by=run.owner, run=run)
            until(lambda run=run: ended(run))
    with stage.worker(keep_images=1):
        until(lambda: stage.sandbox.layers(stage.image) is None)
        run = stage.run(lambda _call: 0)
        until(lambda: ended(run))
    assert run.state == State.SUCCESS


def test_an_input_that_changed_is_a_reason(stage):
    run = stage.run(sleeper)
    ExportFile.objects.update(size=2)
    with stage.worker():
        until(lambda: ended(run))
    assert (run.state, run.reason) == (State.FAILURE, "input-unreadable")


def test_without_an_engine_tasks_wait_and_say_so(stage):
    stage.sandbox.available = False
    with stage.worker():
        run = stage.run(lambda _call: 0, files=5)
        stage.sandbox.available = False
        time.sleep(0.5)
        assert not ended(run)
        stage.sandbox.available = True
        until(lambda: ended(run))
    assert run.state == State.SUCCESS
    assert max(task.attempt for task in run.tasks.all()) == 1


def test_an_engine_that_goes_away_is_waited_for(stage):
    with stage.worker():
        run = stage.run(sleeper)
        until(lambda: running(run))
        stage.sandbox.available = False
        until(lambda: "Waiting" in Task.objects.get().message)
        stage.sandbox.available = True
        operations.cancel(by=run.owner, run=run)
        until(lambda: ended(run))


def test_a_full_disk_is_waited_for(stage, monkeypatch):
    full = [NoSpace("no room")] * 3
    start = stage.sandbox.start

    def start_on_a_full_disk(launch):
        if full:
            raise full.pop()
        start(launch)

    monkeypatch.setattr(stage.sandbox, "start", start_on_a_full_disk)
    with stage.worker():
        run = stage.run(lambda _call: 0)
        until(lambda: ended(run))
    assert run.state == State.SUCCESS
    assert run.tasks.get().attempt == 1


def test_a_stopped_worker_gives_its_tasks_back(stage):
    with stage.worker():
        run = stage.run(sleeper)
        until(lambda: running(run))
    assert run.tasks.get().state == State.QUEUED
    assert stage.residents() == []
    stage.programs[stage.image] = lambda _call: 0
    with stage.worker():
        until(lambda: ended(run))
    assert run.state == State.SUCCESS


def test_a_worker_that_leaves_is_succeeded_by_one_that_adopts(stage):
    go = threading.Event()

    def program(call: Call) -> int:
        call.stderr.write(b"before\n")
        go.wait(30)
        call.stderr.write(b"after\n")
        return 0

    with stage.worker(on_stop="leave"):
        run = stage.run(program)
        until(lambda: running(run))
    assert [r.running for r in stage.residents()] == [True]
    with stage.worker():
        go.set()
        until(lambda: ended(run))
    task = run.tasks.get()
    assert (task.state, task.attempt) == (State.SUCCESS, 1)
    assert said(AttemptFiles(run.pk, 0, 1)) == ["before", "after"]


def test_an_attempt_whose_container_is_gone_is_given_back(stage):
    with stage.worker(on_stop="leave"):
        run = stage.run(sleeper)
        until(lambda: running(run))
    for resident in stage.residents():
        stage.sandbox.remove(resident.name)
    stage.programs[stage.image] = lambda _call: 0
    with stage.worker():
        until(lambda: ended(run))
    assert [a.reason for a in run.tasks.get().attempts.all()] == ["platform", ""]


def test_containers_that_nobody_needs_are_removed(stage):
    with stage.worker(on_stop="leave"):
        run = stage.run(sleeper)
        until(lambda: running(run))
    Task.objects.update(
        state=State.CANCELED, ended_at=timezone.now(), token=None, lease_until=None, reason="canceled"
    )
    with stage.worker():
        until(lambda: stage.residents() == [])
    assert run.tasks.get().state == State.CANCELED


def test_no_more_tasks_run_than_there_are_slots(stage):
    at_once, most, both = [], [], threading.Event()

    def program(_call: Call) -> int:
        at_once.append(1)
        most.append(len(at_once))
        if len(at_once) > 1:
            both.set()
        both.wait(120)
        time.sleep(0.05)
        at_once.pop()
        return 0

    with stage.worker(slots=2):
        run = stage.run(program, files=10)
        until(lambda: ended(run))
    assert max(most) == 2


def test_a_node_has_one_worker(stage):
    with stage.worker():
        time.sleep(0.2)
        node = node_of(stage.sandbox, stage.data)
        second = Worker(
            sweep=output_files.sweep,
            node=node,
            slots=1,
            lease=timedelta(seconds=9),
            on_stop="leave",
            lock=stage.data / "one.lock",
        )
        with pytest.raises(NodeTaken):
            second.run()


def test_of_two_machines_with_one_node_name_the_second_stops_and_harms_nothing(stage):
    with stage.worker():
        run = stage.run(sleeper)
        until(lambda: running(run))
        there = stage.data / "there"
        there.mkdir()
        sandbox = FakeSandbox(scratch=there / "scratch", programs=stage.programs)
        second = Worker(
            sweep=output_files.sweep,
        node=node_of(sandbox, there),
            slots=2, lease=timedelta(seconds=60), on_stop="requeue", lock=there / "one.lock",
        )  # fmt: skip
        with pytest.raises(NodeTaken, match="GRIDAPPS_NODE"):
            second.run()
        assert [resident.running for resident in stage.residents()] == [True]
        assert running(run)


def test_a_worker_whose_node_was_taken_over_ends_its_containers_and_itself(stage, monkeypatch):
    monkeypatch.setattr(worker, "PULSE", 0.1)
    cut_off = Worker(
        sweep=output_files.sweep,
        node=node_of(stage.sandbox, stage.data),
        slots=2, lease=timedelta(seconds=60), on_stop="requeue", lock=stage.data / "one.lock",
    )  # fmt: skip
    (stage.data / "run").mkdir()
    ends: list[Exception] = []

    def work():
        try:
            cut_off.run()
        except NodeTaken as error:
            ends.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    run = stage.run(sleeper)
    until(lambda: running(run))
    # It could not report for a lease, and another machine has taken over.
    NodeRow.objects.update(session=uuid4(), place="there")
    thread.join(20)
    assert len(ends) == 1
    assert stage.residents() == []
    assert not ended(run)


def test_who_lost_the_tag_while_queued_runs_nothing(stage, shared_with):
    run = stage.run(sleeper, files=2)
    shared_with.holders.clear()
    with stage.worker():
        until(lambda: ended(run))
    assert (run.state, run.reason) == ("FAILURE", "not-allowed")
    assert "no longer shared with an access tag of yours" in run.reason_text
    assert stage.residents() == []
    assert [attempt.number for task in run.tasks.all() for attempt in task.attempts.all()] == [1, 1]


@pytest.mark.parametrize("stop", [False, True])
def test_a_block_while_it_runs_on_many_files(stage, release, stop):
    administrator = User.objects.create_superuser(username="root")
    go = threading.Event()

    def program(call: Call) -> int:
        while not go.wait(0.02):
            if call.canceled.is_set():
                return 143
        return 0

    run = stage.run(program, files=20)
    with stage.worker(slots=2):
        until(lambda: Task.objects.filter(run=run, deadline__isnull=False).count() == 2)
        operations.block(
            by=administrator, app_id="buildings", release=release.digest, reason="leaks", stop=stop
        )
        if not stop:
            go.set()
        until(lambda: ended(run))
    ends = sorted(set(run.tasks.values_list("state", "reason")))
    if stop:
        assert ends == [("CANCELED", "canceled")]
    else:
        assert run.tasks.filter(state="SUCCESS").count() == 2, "what ran went on"
        assert ends == [("FAILURE", "not-allowed"), ("SUCCESS", "")]
    assert "An administrator has blocked this release: leaks" in run.reason_text
    with pytest.raises(Conflict, match="leaks"):
        operations.retry(by=run.owner, run=run)


def test_a_container_that_cannot_be_removed_delays_nothing_and_is_told(stage, monkeypatch):
    monkeypatch.setattr(worker, "PULSE", 0.05)
    monkeypatch.setattr(clearing, "FIRST_PAUSE", 0.2)
    stage.sandbox.stuck.add(stage.image)
    with stage.worker(slots=1):
        first = stage.run(sleeper)
        until(lambda: running(first))
        operations.cancel(by=first.owner, run=first)
        until(lambda: ended(first))
        assert first.state == State.CANCELED
        assert "could not remove the container yet" in first.reason_text
        until(lambda: overview.nodes()[0].stuck)
        assert "does not remove" in overview.nodes()[0].stuck[0]
        later = stage.run(lambda _call: 0)
        until(lambda: ended(later))
        assert later.state == State.SUCCESS
        stage.sandbox.stuck.clear()
        until(lambda: stage.residents() == [])
        until(lambda: overview.nodes()[0].stuck == [])


def test_a_removal_that_hangs_holds_no_other_attempt(stage, monkeypatch):
    """Claims, cancellations and adoption do not wait for it."""
    remove, go, hanging = stage.sandbox.remove, threading.Event(), []

    def slow(name):
        if name in hanging:
            go.wait(30)
        remove(name)

    with stage.worker(on_stop="leave"):
        lost = stage.run(sleeper)
        until(lambda: running(lost))
    Task.objects.update(
        state=State.CANCELED, ended_at=timezone.now(), token=None, lease_until=None, reason="canceled"
    )
    hanging += [resident.name for resident in stage.residents()]
    monkeypatch.setattr(stage.sandbox, "remove", slow)
    try:
        with stage.worker():
            other = stage.run(sleeper)
            until(lambda: running(other))
            operations.cancel(by=other.owner, run=other)
            until(lambda: ended(other), seconds=5)
            assert other.state == State.CANCELED
            go.set()
            until(lambda: stage.residents() == [])
    finally:
        go.set()


@pytest.mark.parametrize("canceled", [True, False])
def test_a_start_that_never_ends_is_an_attempt_that_failed_or_a_cancel(stage, monkeypatch, canceled):
    stop = threading.Event()

    def start(_launch):
        if canceled:
            stop.wait(10)
        raise ContainerStuck("The engine answers, but not about the container.")

    monkeypatch.setattr(stage.sandbox, "start", start)
    with stage.worker():
        run = stage.run(sleeper)
        if canceled:
            until(lambda: running(run))
            operations.cancel(by=run.owner, run=run)
            time.sleep(0.3)
            stop.set()
        until(lambda: ended(run))
    assert (run.state, run.reason) == (
        (State.CANCELED, "canceled") if canceled else (State.FAILURE, "platform")
    )
    assert "not about the container" in run.reason_text


def test_a_container_that_cannot_be_asked_about_ends_at_a_cancel(stage, monkeypatch):
    def wait(name, *, timeout):
        time.sleep(timeout)
        raise ContainerStuck(f"The engine does not answer about {name}.")

    def stop(name, *, grace):
        raise ContainerStuck(f"The processes of {name} do not end, {grace} s after they were told.")

    with stage.worker():
        run = stage.run(sleeper)
        until(lambda: running(run))
        monkeypatch.setattr(stage.sandbox, "stop", stop)
        monkeypatch.setattr(stage.sandbox, "wait", wait)
        until(lambda: "does not answer about" in Task.objects.get(run=run).message)
        operations.cancel(by=run.owner, run=run)
        until(lambda: ended(run))
        assert run.state == State.CANCELED
        monkeypatch.undo()


@pytest.mark.parametrize(("failures", "state"), [(2, State.SUCCESS), (99, State.FAILURE)])
def test_what_the_engine_cannot_explain_is_tried_a_few_times(stage, monkeypatch, failures, state):
    """The node goes on to run other tasks, and the user sees the error."""
    left, start = [failures], stage.sandbox.start

    def failing(launch):
        if left[0]:
            left[0] -= 1
            raise Unexplained("The engine could not start the container.")
        start(launch)

    monkeypatch.setattr(stage.sandbox, "start", failing)
    with stage.worker():
        run = stage.run(lambda _call: 0)
        until(lambda: ended(run))
    assert run.state == state
    if state == State.FAILURE:
        assert left == [99 - 3 * 3]
        assert "could not start the container" in run.reason_text


def test_an_image_without_room_lets_others_run_and_is_given_up(stage, monkeypatch):
    monkeypatch.setattr(patience, "LONGEST", 1.0)
    full, pull = threading.Event(), stage.sandbox.pull
    full.set()

    def pull_or_not(image, **words):
        if full.is_set():
            raise NoSpace("The engine's disk has no room for the image.")
        pull(image, **words)

    monkeypatch.setattr(stage.sandbox, "pull", pull_or_not)
    with stage.worker(slots=2):
        large = stage.run(lambda _call: 0)
        until(lambda: "no room" in Task.objects.get(run=large).message)
        full.clear()
        other = stage.run(lambda _call: 0)
        until(lambda: ended(other))
        full.set()
        last = stage.run(lambda _call: 0)
        until(lambda: ended(last))
    assert (last.state, last.reason) == (State.FAILURE, "platform")


def test_an_engine_that_went_away_is_looked_at_at_once(stage, monkeypatch):
    monkeypatch.setattr(worker, "SLEEP", 3600)
    looked, version = [], stage.sandbox.version

    def counted():
        looked.append(time.monotonic())
        return version()

    monkeypatch.setattr(stage.sandbox, "version", counted)
    with stage.worker():
        until(lambda: looked)
        before = len(looked)
        stage.sandbox.changed.set()
        until(lambda: len(looked) > before, seconds=120)


def test_who_ends_the_task_of_a_silent_node_removes_what_its_attempts_left(stage):
    """The last attempt never started, so no removal of a container tidies its files."""
    run = stage.run(lambda _call: 0)
    for number in range(1, queue.MAX_ATTEMPTS + 1):
        claim = queue.claim(node="silent", lease=timedelta(seconds=-1))
        assert claim is not None
        assert claim.attempt == number
        if number < queue.MAX_ATTEMPTS:
            AttemptFiles(run.pk, 0, number).make()
            queue.expire()
    LeaseKeeper(RunningAttempts(), lease=timedelta(0)).expire()
    assert Task.objects.get(run=run).state == State.FAILURE
    assert not list((stage.data / "outputs").glob("*/*/*"))


def test_a_failure_of_the_sandbox_is_told_in_its_own_words(stage, monkeypatch):
    def start(_launch):
        raise SandboxError("The engine does not see the workspace.")

    monkeypatch.setattr(stage.sandbox, "start", start)
    with stage.worker():
        run = stage.run(sleeper)
        until(lambda: ended(run))
    assert "The engine does not see the workspace." in run.reason_text
    assert "log has the details" not in run.reason_text


def test_a_node_whose_disk_is_nearly_full_claims_nothing_and_reports_it(stage, settings):
    before = settings.GRIDAPPS
    settings.GRIDAPPS = before.model_copy(update={"min_free_disk": 2**60})
    run = stage.run(lambda _call: 0)
    with stage.worker() as mine:
        until(lambda: NodeRow.objects.filter(free_disk__lt=2**60, min_free_disk=2**60).exists())
        assert Run.objects.get(pk=run.pk).state == State.QUEUED
        assert overview.nodes()[0].standing == "disk nearly full"
        settings.GRIDAPPS = before
        mine._ring()
        until(lambda: Run.objects.get(pk=run.pk).state == State.SUCCESS)
