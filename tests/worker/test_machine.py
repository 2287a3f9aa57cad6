"""A state machine of users, workers and failures, which Hypothesis drives in any order.

Queue, worker, execution and database are real, the sandbox is the fake. The invariants hold after each step.
"""

import json
import shutil
import tempfile
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gridapps.access.models import User
from gridapps.exports.models import Export, ExportFile
from gridapps.housekeeping import output_files
from gridapps.pki.tokens import Registry
from gridapps.pushes import references
from gridapps.registry.models import App, Release
from gridapps.runs import models, operations
from gridapps.runs.errors import Conflict
from gridapps.runs.models import Attempt, Run, Task
from gridapps.runs.operations import Request
from gridapps.runs.queue import MAX_ATTEMPTS
from gridapps.runs.states import MOVES, TERMINAL, State, run_state
from gridapps.runs.store import AttemptFiles
from gridapps.sandbox.fake import Call
from gridapps.worker.local_node import LocalNode
from gridapps.worker.node_images import NodeImages
from gridapps.worker.worker import Worker
from tests.worker.stepping import Clock, Fault, Faults, Process, SteppedSandbox, install

pytestmark = pytest.mark.django_db(transaction=True)

NODES = ("one", "two")
LEASE = timedelta(seconds=20)
MOST_TASKS = 5
ROUNDS = 200  # after which all tasks must have ended once everything is back


class Setting:
    """What all examples share: a user, an App, an export, and the patched product."""

    def __init__(self, data: Path, release: Release, by: User) -> None:
        self.data = data
        self.by = by
        self.app = release.app.app_id
        self.images = [references.pull_of(release, source).reference for source in Registry]
        self.clock, self.faults = Clock(), Faults()
        self.export = Export.objects.create(owner=by, name="city")
        for index in range(3):
            (data / "exports" / f"{index}.laz").write_bytes(b"x")
            ExportFile.objects.create(
                export=self.export, name=f"{index}.laz", path=f"{index}.laz", size=1, sha256="", points=100,
                las_version="1.4", point_format=6, bounds=[], footprint=b"",
            )  # fmt: skip


class Machine(RuleBasedStateMachine):
    """Two nodes with at most one worker each, which may die, be late, or lose contact to the others."""

    setting: Setting

    def __init__(self) -> None:
        super().__init__()
        for model in (Run, Task, models.Node):
            model.objects.all().delete()
        for name in ("outputs", "run"):
            shutil.rmtree(self.setting.data / name, ignore_errors=True)
            (self.setting.data / name).mkdir()
        self.setting.clock.ahead = 0.0
        self.setting.faults.armed = None
        self.gates: dict[str, threading.Event] = {}
        self.scratch = Path(tempfile.mkdtemp())
        self.sandboxes = {name: self._sandbox(name) for name in NODES}
        self.workers: dict[str, Process] = {}
        self.seen: dict[UUID, State] = {}
        self.ends: dict[UUID, tuple[object, ...]] = {}
        self.submit(2, 0)
        for node in NODES:
            self.start_worker(node)

    def _sandbox(self, node: str) -> SteppedSandbox:
        sandbox = SteppedSandbox(
            scratch=self.scratch / node, programs=dict.fromkeys(self.setting.images, self._program)
        )
        sandbox.sizes = {image: {image: 2} for image in self.setting.images}
        sandbox.meet(self.setting.faults)
        return sandbox

    def _program(self, call: Call) -> int:
        """Write the word of the run at once, and end with its exit code when the gate opens."""
        asked = json.loads(call.arguments)
        call.stderr.write(b'{"progress": 0.5}\n')
        (call.output / "word").write_text(asked["word"])
        gate = self.gates.setdefault(call.output.parent.name, threading.Event())
        while not gate.wait(0.005):
            if call.canceled.is_set():
                return 143
        return int(asked["exit"])

    # What users do

    @precondition(lambda _self: Task.objects.count() < MOST_TASKS)
    @rule(files=st.integers(1, 3), code=st.sampled_from([0, 0, 3]))
    def submit(self, files: int, code: int) -> None:
        which = list(self.setting.export.files.order_by("pk"))[:files]
        arguments = {"word": f"w{Run.objects.count()}", "exit": code}
        for file in which if files < 3 else [None]:
            part: dict[str, Any] = {"exportfile": file.pk} if file else {"export": self.setting.export.pk}
            request = Request(app=self.setting.app, arguments=arguments, **part)
            operations.submit(by=self.setting.by, request=request)

    @precondition(lambda _self: Run.objects.filter(state=State.RUNNING).exists())
    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        try:
            run = self._run(which)
            operations.cancel(by=run.owner, run=run)
        except Conflict:
            assert self._run(which).state in TERMINAL

    @precondition(lambda _self: 0 < Task.objects.count() < MOST_TASKS)
    @rule(which=st.integers(0, 20))
    def retry(self, which: int) -> None:
        try:
            run = self._run(which)
            operations.retry(by=run.owner, run=run)
        except Conflict:
            assert self._run(which).state not in (State.FAILURE, State.CANCELED)

    def _run(self, which: int) -> Run:
        runs = list(Run.objects.order_by("created_at", "pk"))
        return runs[which % len(runs)]

    # What workers do

    @rule(node=st.sampled_from(NODES))
    def start_worker(self, node: str) -> None:
        if node not in self.workers or not self.workers[node].alive:
            sandbox = self.sandboxes[node]
            kept = NodeImages(
                self.scratch / node / "images", sandbox=sandbox, limit=1
            )  # all but those in use
            on = LocalNode(name=node, instance="machine", sandbox=sandbox, images=kept, max_log=10**6)
            lock = self.setting.data / "run" / f"{node}.lock"
            self.workers[node] = Process(
                Worker(
                    sweep=output_files.sweep,
                    node=on,
                    slots=2,
                    lease=LEASE,
                    on_stop="leave",
                    lock=lock,
                ),
            )

    @rule(node=st.sampled_from(NODES), steps=st.integers(1, 12))
    def turn(self, node: str, steps: int) -> None:
        if process := self.workers.get(node):
            for _ in range(steps):
                process.step(process.loop)

    @rule(node=st.sampled_from(NODES), task=st.integers(0, 5), steps=st.integers(1, 12))
    def work(self, node: str, task: int, steps: int) -> None:
        process = self.workers.get(node)
        if process and (tasks := [each for each in process.tasks if not each.done]):
            for _ in range(steps):
                process.step(tasks[task % len(tasks)])

    @rule(node=st.sampled_from(NODES), steps=st.integers(1, 25))
    def go_on(self, node: str, steps: int) -> None:
        """Step the loop and the tasks of a worker in turn."""
        if process := self.workers.get(node):
            for _ in range(steps):
                for thread in (process.loop, *process.tasks):
                    process.step(thread)

    @rule(node=st.sampled_from(NODES))
    def heart(self, node: str) -> None:
        if node in self.workers and self.workers[node].alive:
            self.workers[node].beat()

    @rule(which=st.integers(0, 5))
    def program_ends(self, which: int) -> None:
        running = [
            (sandbox, resident.name)
            for sandbox in self.sandboxes.values() if sandbox.available
            for resident in sandbox.residents(labels={}) if resident.running
        ]  # fmt: skip
        if running:
            sandbox, name = running[which % len(running)]
            self.gates.setdefault(name, threading.Event()).set()
            assert sandbox._containers[name].done.wait(10)

    # What fails

    @rule(fault=st.sampled_from(get_args(Fault)))
    def arm(self, fault: Fault) -> None:
        self.setting.faults.armed = fault

    @rule(node=st.sampled_from(NODES))
    def kill_worker(self, node: str) -> None:
        if node in self.workers:
            self.workers[node].kill()

    @precondition(lambda self: all(sandbox.available for sandbox in self.sandboxes.values()))
    @rule(node=st.sampled_from(NODES), with_containers=st.booleans())
    def engine_goes(self, node: str, with_containers: bool) -> None:
        if with_containers:
            self.sandboxes[node].die()
        self.sandboxes[node].available = False

    @precondition(lambda self: not all(sandbox.available for sandbox in self.sandboxes.values()))
    @rule(node=st.sampled_from(NODES))
    def engine_comes(self, node: str) -> None:
        self.sandboxes[node].available = True

    @rule(seconds=st.sampled_from([1, 7, 30, 3600]))
    def time_passes(self, seconds: int) -> None:
        """After 30 s or more, leases that are not renewed have expired."""
        self.setting.clock.ahead += seconds

    @rule(node=st.sampled_from(NODES))
    def is_cut_off(self, node: str) -> None:
        """A node does not report for longer than its leases, while its tasks go on."""
        self.setting.clock.ahead += LEASE.total_seconds() + 10
        for other in NODES:
            if other != node:
                self.go_on(other, 12)

    # What must hold

    @invariant()
    def promises(self) -> None:
        for run in Run.objects.prefetch_related("tasks__attempts", "tasks__outputs"):
            tasks = list(run.tasks.all())
            states = [State(task.state) for task in tasks]
            assert run.state == run_state(set(states))
            for task in tasks:
                self._assert_it_moved_as_the_table_allows(task)
                _assert_attempts_are_few_and_one_wins(task)
                _assert_outputs_are_visible_exactly_when_whole(run, task)

    def _assert_it_moved_as_the_table_allows(self, task: Task) -> None:
        before, now = self.seen.get(task.pk, State.QUEUED), State(task.state)
        assert now in _reachable(before), f"{before} became {now}"
        self.seen[task.pk] = now
        if now in TERMINAL:
            end = (now, task.attempt, task.reason, task.exit_code, task.ended_at, _outputs(task))
            assert self.ends.setdefault(task.pk, end) == end, "an end has changed"

    def teardown(self) -> None:
        """Bring everything back. Then all tasks must end and nothing may be left over."""
        self.setting.faults.armed = None
        for _ in range(ROUNDS):
            for node in NODES:
                self.engine_comes(node)
                self.start_worker(node)
                self.heart(node)
                self.go_on(node, 8)
            self.program_ends(0)
            self.setting.clock.ahead += 2
            if self._at_rest():
                break
        self.promises()
        assert self._at_rest(), list(Task.objects.values("state", "attempt", "node", "message"))
        self._assert_ends_are_just()
        for process in self.workers.values():
            process.kill()
        shutil.rmtree(self.scratch)

    def _at_rest(self) -> bool:
        return (
            not Task.objects.exclude(state__in=TERMINAL).exists()
            and not any(sandbox.residents(labels={}) for sandbox in self.sandboxes.values())
            and not any(self._directories_of_losers())
        )

    def _directories_of_losers(self) -> list[Path]:
        return [
            path
            for task in Task.objects.filter(attempt__gt=0)
            for path in AttemptFiles(task.run_id, task.index, 1).directory.parent.glob("*")
            if path.name != str(task.attempt) or (not _outputs(task) and (path / "files").exists())
        ]

    def _assert_ends_are_just(self) -> None:
        """Each task ended as its program did, unless it was canceled or the platform failed too often."""
        for task in Task.objects.select_related("run"):
            failures = task.attempts.filter(reason="platform").count()
            if task.state == State.CANCELED:
                assert task.run.cancel_requested_at
            elif task.reason == "platform":
                assert failures == MAX_ATTEMPTS
            else:
                code = task.run.arguments["exit"]
                assert (task.state, task.exit_code) == (State.FAILURE if code else State.SUCCESS, code)


def _assert_attempts_are_few_and_one_wins(task: Task) -> None:
    attempts = sorted(task.attempts.all(), key=lambda attempt: attempt.number)
    assert [attempt.number for attempt in attempts] == list(range(1, task.attempt + 1))
    assert sum(attempt.reason == "platform" for attempt in attempts) <= MAX_ATTEMPTS
    open_ones = [attempt.number for attempt in attempts if attempt.ended_at is None]
    assert open_ones == ([task.attempt] if task.state == State.RUNNING else [])
    won = [attempt.number for attempt in attempts if _completed(attempt)]
    assert won == ([task.attempt] if _completed(task) else [])


def _assert_outputs_are_visible_exactly_when_whole(run: Run, task: Task) -> None:
    if not _completed(task):
        assert not _outputs(task) or task.state == State.CANCELED  # what it had left by then is kept
        return
    found = {path for path, _ in _outputs(task)}
    assert found == {"stdout.txt", "word"}, (task.state, task.reason, task.exit_code, found)
    place = AttemptFiles(run.pk, task.index, task.attempt)
    assert (place.files / "word").read_text() == run.arguments["word"]


def _reachable(state: State) -> set[State]:
    found, new = {state}, {state}
    while new:
        new = {target for each in new for target in MOVES[each]} - found
        found |= new
    return found


def _completed(row: Task | Attempt) -> bool:
    """Whether the program ended by itself."""
    if row.ended_at is None:
        return False
    return row.reason == "program-failed" or (row.exit_code == 0 and row.reason == "")


def _outputs(task: Task) -> frozenset[tuple[str, str]]:
    return frozenset((output.path, output.sha256) for output in task.outputs.all())


@pytest.fixture(name="setting")
def make_setting(tmp_path, release, monkeypatch, settings) -> Setting:
    settings.DATA = tmp_path
    (tmp_path / "exports").mkdir()
    App.objects.update(disk=2**26, memory=2**26, time=7 * 86400)
    release.refresh_from_db()
    made = Setting(tmp_path, release, release.app.owner)
    install(monkeypatch, made.clock, made.faults)
    return made


def machine_of(setting: Setting) -> type[Machine]:
    """A machine with this setting."""
    return type("MachineHere", (Machine,), {"setting": setting})


def play(machine: type[Machine], steps: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Execute rules in the form in which Hypothesis prints them."""
    state = machine()
    state.promises()
    for name, arguments in steps:
        getattr(state, name)(**arguments)
        state.promises()
    state.teardown()


def test_whatever_happens_in_whatever_order(setting: Setting) -> None:
    run_state_machine_as_test(machine_of(setting), settings=PROFILE)


PROFILE = settings(
    max_examples=20, stateful_step_count=40, deadline=None, print_blob=False, database=None,
    suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
