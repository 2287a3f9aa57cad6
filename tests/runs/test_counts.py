"""The counts that the developer of an App sees: of whole days, and nothing else."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from gridapps.registry.models import Release
from gridapps.runs import counts
from gridapps.runs.models import Run, Task
from gridapps.runs.states import State
from tests.runs.conftest import MakeRun

MIDNIGHT = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
NOTHING = {State.SUCCESS: 0, State.FAILURE: 0, State.CANCELED: 0}


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests within one day, whenever they run."""
    monkeypatch.setattr(counts, "timezone", SimpleNamespace(now=lambda: MIDNIGHT + timedelta(hours=12)))


def end(run: Run, state: State, *, ago: timedelta) -> None:
    """`ago`: before the last midnight; negative values are today."""
    told = {"state": state, "ended_at": MIDNIGHT - ago, "reason": "x" if state == State.FAILURE else ""}
    Task.objects.filter(run=run).update(**told)
    Run.objects.filter(pk=run.pk).update(**told)


def test_runs_and_tasks_are_counted_by_release_and_whether_they_are_the_owners(
    make_run: MakeRun, release: Release
) -> None:
    end(make_run(points=(1, 1, 1)), State.SUCCESS, ago=timedelta(seconds=1))
    end(make_run(owner="other"), State.FAILURE, ago=timedelta(days=30))
    end(make_run(owner="other"), State.CANCELED, ago=timedelta(days=30, seconds=1))
    end(make_run(owner="developer", points=(1, 1)), State.SUCCESS, ago=timedelta(days=400))
    found = counts.counts_of_app(release.app)
    (recent,), (ever,) = found.recent, found.in_all
    assert recent.release == ever.release == release.digest
    assert recent.others.runs == NOTHING | {State.SUCCESS: 1, State.FAILURE: 1}
    assert recent.others.tasks == NOTHING | {State.SUCCESS: 3, State.FAILURE: 1}
    assert recent.own.runs == NOTHING
    assert ever.others.runs == {State.SUCCESS: 1, State.FAILURE: 1, State.CANCELED: 1}
    assert (ever.own.runs[State.SUCCESS], ever.own.tasks[State.SUCCESS]) == (1, 2)
    assert (found.until, found.until - found.since) == (MIDNIGHT, timedelta(days=30))


def test_today_is_told_tomorrow(make_run: MakeRun, release: Release) -> None:
    make_run()
    end(make_run(), State.SUCCESS, ago=timedelta(0))
    end(make_run(), State.SUCCESS, ago=timedelta(seconds=-1))
    found = counts.counts_of_app(release.app)
    assert (found.in_all, found.recent) == ([], [])


@pytest.mark.parametrize("runs", [1, 7])
def test_it_takes_three_questions_however_many_runs(
    make_run: MakeRun, release: Release, runs: int, django_assert_num_queries: object
) -> None:
    for number in range(runs):
        end(make_run(owner=f"user-{number}"), State.SUCCESS, ago=timedelta(days=number + 1))
    with django_assert_num_queries(3):  # type: ignore[operator]
        assert counts.counts_of_app(release.app).in_all[0].others.runs[State.SUCCESS] == runs
