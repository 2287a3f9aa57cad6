"""The queue: turns of users, fences, terminal states, three attempts."""

import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from gridapps.runs import queue
from gridapps.runs.errors import LostLease
from gridapps.runs.models import Output, Run, Task
from gridapps.runs.states import MOVES, State, run_state
from gridapps.runs.store import CollectedFile

pytestmark = pytest.mark.django_db
LEASE = timedelta(seconds=60)


def claim(node="one"):
    mine = queue.claim(node=node, lease=LEASE)
    assert mine is not None
    return mine


def succeed(mine, **more):
    queue.finish(claim=mine, state=State.SUCCESS, reason="", text="", **more)


def test_an_empty_queue_has_nothing_to_claim():
    assert queue.claim(node="one", lease=LEASE) is None


def test_tasks_of_a_run_are_claimed_in_order_and_once(make_run):
    run = make_run(points=(1, 2, 3))
    assert [claim().index for _ in range(3)] == [0, 1, 2]
    assert queue.claim(node="one", lease=LEASE) is None
    run.refresh_from_db()
    assert run.state == State.RUNNING
    assert run.started_at is not None


def test_a_light_user_goes_before_the_second_task_of_a_heavy_one(make_run):
    heavy = make_run(owner="heavy", points=(1,) * 50, age=100)
    light = make_run(owner="light")
    assert [claim().run for _ in range(3)] == [heavy.pk, light.pk, heavy.pk]


def test_progress_of_a_run_is_weighted_by_points(make_run):
    run = make_run(points=(300, 100))
    first = claim()
    queue.progress(claim=first, fraction=0.5, message="half")
    run.refresh_from_db()
    assert run.progress == pytest.approx(0.375)
    assert run.message == "half"
    succeed(first)
    run.refresh_from_db()
    assert run.progress == pytest.approx(0.75)
    assert run.state == State.RUNNING
    before = run.version
    succeed(claim())
    run.refresh_from_db()
    assert (run.state, run.progress) == (State.SUCCESS, 1)
    assert run.ended_at is not None
    assert run.version > before


def test_a_finish_is_repeated_after_a_database_failure(make_run):
    make_run(points=(1, 1))
    lost, other = claim(), claim()
    outputs = [CollectedFile("a", 1, "", "text/plain")]
    with transaction.atomic():
        succeed(lost, outputs=outputs)
        transaction.set_rollback(True)
    succeed(other, outputs=outputs)
    succeed(lost, outputs=outputs)
    assert Output.objects.count() == 2


def test_finish_makes_outputs_visible_and_is_accepted_twice(make_run):
    run = make_run()
    mine = claim()
    for _ in range(2):
        succeed(mine, outputs=[CollectedFile("a", 1, "", "text/plain")])
    assert Output.objects.filter(task__run=run).count() == 1


def test_a_fenced_off_worker_changes_nothing(make_run):
    run = make_run()
    mine = claim()
    adopted = queue.adopt(task=mine.task, attempt=mine.attempt, node="one", lease=LEASE)
    assert adopted is not None
    for attempt_to in (
        lambda: succeed(mine),
        lambda: queue.progress(claim=mine, fraction=1, message=""),
        lambda: queue.release(claim=mine, reason="platform", text="x"),
    ):
        with pytest.raises(LostLease):
            attempt_to()
    assert queue.renew(claims=[mine, adopted], lease=LEASE) == {adopted.token}
    succeed(adopted)
    run.refresh_from_db()
    assert run.state == State.SUCCESS


def test_nobody_adopts_what_another_node_runs(make_run):
    make_run()
    mine = claim(node="one")
    assert queue.adopt(task=mine.task, attempt=mine.attempt, node="two", lease=LEASE) is None


def test_the_platforms_third_failure_is_final(make_run):
    run = make_run()
    states = [queue.release(claim=claim(), reason="platform", text="the disk died") for _ in range(3)]
    assert states == [State.QUEUED, State.QUEUED, State.FAILURE]
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.FAILURE, "platform")
    assert "the disk died" in run.reason_text
    assert run.tasks.get().attempts.count() == 3


def test_a_stopped_node_costs_no_attempt(make_run):
    make_run()
    for _ in range(5):
        assert queue.release(claim=claim(), reason="released", text="stopped") == State.QUEUED


def test_a_canceled_run_is_not_queued_again(make_run):
    run = make_run()
    mine = claim()
    Run.objects.filter(pk=run.pk).update(cancel_requested_at="2026-01-01T00:00:00Z")
    assert queue.cancel_requested(claims=[mine]) == {mine.token}
    assert queue.release(claim=mine, reason="released", text="stopped") == State.CANCELED
    run.refresh_from_db()
    assert run.state == State.CANCELED


def test_an_expired_lease_gives_the_task_back(make_run):
    make_run()
    kept = queue.claim(node="one", lease=LEASE)
    assert kept
    assert queue.expire() == []
    queue.renew(claims=[kept], lease=timedelta(seconds=-1))
    assert queue.expire() == [(kept.task, 1, State.QUEUED)]
    assert Task.objects.get().state == State.QUEUED
    assert claim().attempt == 2


def test_lost_names_the_attempts_without_a_container(make_run):
    make_run(points=(1, 1))
    first, second = claim(), claim()
    assert [c.task for c in queue.lost(node="one", present={(first.task, first.attempt)})] == [second.task]


@pytest.mark.parametrize("end", [State.SUCCESS, State.FAILURE, State.CANCELED])
def test_terminal_states_never_change(make_run, end):
    make_run()
    mine = claim()
    queue.finish(claim=mine, state=end, reason="r", text="t")
    with pytest.raises(LostLease):
        queue.release(claim=mine, reason="platform", text="x")
    assert Task.objects.get().state == end
    assert not MOVES[end]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({State.QUEUED}, State.QUEUED),
        ({State.QUEUED, State.SUCCESS}, State.RUNNING),
        ({State.RUNNING, State.FAILURE}, State.RUNNING),
        ({State.SUCCESS}, State.SUCCESS),
        ({State.SUCCESS, State.FAILURE}, State.FAILURE),
        ({State.FAILURE, State.CANCELED}, State.CANCELED),
    ],
)
def test_state_of_a_run(states, expected):
    assert run_state(states) == expected


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("task_running_exactly_with_lease", {"state": "RUNNING"}),
        ("task_running_exactly_with_lease", {"token": uuid.uuid4()}),
        ("task_ended_exactly_when_terminal", {"state": "SUCCESS"}),
        ("task_ended_exactly_when_terminal", {"ended_at": "2026-01-01T00:00:00Z"}),
        ("task_failure_has_reason", {"state": "FAILURE", "ended_at": "2026-01-01T00:00:00Z"}),
    ],
)
def test_the_database_refuses_impossible_tasks(make_run, constraint, changes):
    make_run()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Task.objects.update(**changes)


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("run_ended_exactly_when_terminal", {"state": "SUCCESS"}),
        ("run_progress_in_range", {"progress": 1.5}),
        ("run_failure_has_reason", {"state": "FAILURE", "ended_at": "2026-01-01T00:00:00Z"}),
    ],
)
def test_the_database_refuses_impossible_runs(make_run, constraint, changes):
    make_run()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Run.objects.update(**changes)
