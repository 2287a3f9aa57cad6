"""Which task is next: turns, priority with ageing, limits that hold back single lanes, no starvation."""

import threading
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from gridapps.access.models import User
from gridapps.exports.models import Export, ExportFile
from gridapps.registry.models import App, Release
from gridapps.runs import lanes, operations, queue
from gridapps.runs.errors import InvalidRequest, LostLease, QuotaExceeded, TooManyQueued
from gridapps.runs.models import Lane, Node, Run, Task
from gridapps.runs.position import position
from gridapps.runs.states import State
from gridapps.runs.store import CollectedFile
from gridapps.runs.waiting import waits_for
from tests.runs.test_queue import LEASE, claim, succeed

pytestmark = pytest.mark.django_db
EMPTY = "0" * 64


class Crowd:
    """Rows of users and Apps; any user may submit runs."""

    def __init__(self):
        self.apps = {}

    def app(self, name="plain", **limits):
        if name not in self.apps:
            owner, _ = User.objects.get_or_create(username="developer")
            app = App.objects.create(
                app_id=name, owner=owner, title=name, arguments={"type": "object"}, cpus=1, memory=1, disk=1,
                time=60, **limits,
            )  # fmt: skip
            self.apps[name] = Release.objects.create(
                app=app, digest=f"sha256:{EMPTY}", media_type="m", state="valid", size=1, layers=1,
                pushed_at=timezone.now(),
            )  # fmt: skip
        return self.apps[name]

    def submit(self, owner="analyst", *, tasks=1, app="plain", age=0, priority=0, cpus=1.0, memory=1, disk=1):
        """Queue a run with the code of every submission; `age` is in seconds."""
        user, _ = User.objects.get_or_create(username=owner)
        export = Export.objects.create(owner=user, name="city")
        files = ExportFile.objects.bulk_create(
            ExportFile(
                export=export, name=f"{index}.laz", path=f"{index}", size=1, sha256="", points=1,
                las_version="1.4", point_format=6, bounds=[], footprint=b"",
            )
            for index in range(tasks)
        )  # fmt: skip
        run = Run(
            owner=user, release=self.app(app), export=export, arguments={}, cpus=cpus, memory=memory,
            disk=disk, time=60, priority=priority,
        )  # fmt: skip
        with transaction.atomic():
            operations._enqueue(user, run, list(files))
        if age:
            for task in run.tasks.all():
                past = timedelta(seconds=age)
                assert task.rank is not None
                Task.objects.filter(pk=task.pk).update(queued_at=task.queued_at - past, rank=task.rank - past)
        return run


@pytest.fixture
def crowd():
    return Crowd()


@pytest.fixture
def setting(settings):
    def change(**changes):
        settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update=changes)

    return change


@pytest.fixture
def make_node():
    def make(name="one", *, cpus=4.0, memory=100, disk=100):
        return Node.objects.create(
            name=name, slots=9, cpus=cpus, memory=memory, disk=disk, version="1", started_at=Now(),
            last_seen_at=Now(),
        )  # fmt: skip

    return make


def claimed(count=1, node="one"):
    """The runs of the next claims; None for each claim without a task."""
    claims = [queue.claim(node=node, lease=LEASE) for _ in range(count)]
    return [mine and mine.run for mine in claims]


def test_a_light_user_goes_next_on_one_slot_although_a_heavy_one_came_long_before(crowd):
    heavy = crowd.submit("heavy", tasks=50, age=1000)
    succeed(claim())
    light = crowd.submit("light", tasks=2)
    order = []
    for _ in range(4):
        mine = claim()
        order.append(mine.run)
        succeed(mine)
    assert order == [light.pk, heavy.pk, light.pk, heavy.pk]


def test_users_with_fewer_running_tasks_go_first(crowd):
    first = crowd.submit("first", tasks=9, age=9)
    assert claimed(2) == [first.pk] * 2
    second = crowd.submit("second", tasks=9)
    assert claimed(4) == [second.pk, second.pk, first.pk, second.pk]


def test_priority_counts_among_ones_own_runs_alone(crowd):
    low = crowd.submit("a", priority=-10)
    high = crowd.submit("a", priority=10)
    other = crowd.submit("b", priority=0)
    assert claimed(3) == [high.pk, other.pk, low.pk]


def test_waiting_makes_up_for_priority(crowd):
    step = lanes.AGEING.total_seconds()
    old = crowd.submit("a", age=2 * step + 5)
    urgent = crowd.submit("a", priority=2)
    more_urgent = crowd.submit("a", priority=3)
    assert claimed(3) == [more_urgent.pk, old.pk, urgent.pk]


@pytest.mark.parametrize("priority", [-11, 11])
def test_priorities_have_a_range(crowd, priority):
    with pytest.raises(InvalidRequest):
        operations._priority(priority)
    crowd.submit()
    with pytest.raises(IntegrityError, match="run_priority_in_range"), transaction.atomic():
        Run.objects.update(priority=priority)


def test_a_user_has_no_more_running_than_allowed(crowd, setting):
    setting(max_running=2)
    crowd.submit("a", tasks=5, age=9)
    assert None not in claimed(2)
    assert claimed() == [None]
    other = crowd.submit("b")
    assert claimed(2) == [other.pk, None]


def test_an_app_at_its_limit_holds_back_nothing_else(crowd):
    crowd.app("licensed", max_running=1)
    licensed = crowd.submit("a", tasks=3, app="licensed", age=9)
    free = crowd.submit("a", tasks=2)
    foreign = crowd.submit("b", app="licensed", age=5)
    mine = claim()
    assert mine.run == licensed.pk
    assert claimed(3) == [free.pk, free.pk, None]
    succeed(mine)
    assert claimed(2) == [foreign.pk, None]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_an_app_is_positive(crowd, limit):
    crowd.app()
    with pytest.raises(IntegrityError, match="max_running"), transaction.atomic():
        App.objects.update(max_running=limit)


@pytest.mark.parametrize("name", ["cpus", "memory", "disk"])
def test_what_runs_on_a_node_fits_into_it(crowd, make_node, name):
    make_node(cpus=10, memory=10, disk=10)
    crowd.submit("a", tasks=4, **{name: 4})
    assert [bool(run) for run in claimed(4)] == [True, True, False, False]
    assert claimed(node="another") != [None]


def test_fractions_of_processors_fill_a_node(crowd, make_node):
    make_node(cpus=1)
    crowd.submit("a", tasks=11, cpus=0.1)
    assert [bool(run) for run in claimed(11)] == [True] * 10 + [False]


def test_what_fits_goes_before_a_head_that_does_not(crowd, make_node):
    make_node(cpus=4)
    crowd.submit("a", age=9, cpus=3)
    assert None not in claimed()
    large, small = crowd.submit("a", age=5, cpus=2), crowd.submit("a", cpus=1)
    assert claimed(2) == [small.pk, None]
    assert Lane.objects.get(tasks__run=large).passed_over_at is not None


def test_a_large_task_does_not_starve(crowd, make_node, setting):
    """Small tasks keep arriving. After a while a node keeps its room for the large one."""
    setting(reserve_after=0)
    make_node(cpus=2)
    crowd.submit("small", tasks=20, age=9)
    running = [claim(), claim()]
    large = crowd.submit("large", cpus=2)
    succeed(running.pop())
    # Passed over for the first time. From the second time on, the node waits for it.
    running.append(claim())
    succeed(running.pop())
    assert queue.claim(node="one", lease=LEASE) is None
    assert Node.objects.get().reserved is not None
    succeed(running.pop())
    assert claim().run == large.pk
    assert Node.objects.get().reserved is None


def test_one_node_keeps_room_and_the_others_work_on(crowd, make_node, setting):
    setting(reserve_after=0)
    for name in ("one", "two"):
        make_node(name, cpus=2)
    crowd.submit("small", tasks=20, age=9)
    for name in ("one", "two"):
        claim(node=name)
    crowd.submit("large", cpus=2)
    claim(node="two")
    assert claimed() == [None]
    succeed(_any_of("two"))
    assert None not in claimed(node="two")
    assert list(Node.objects.filter(reserved__isnull=False).values_list("name", flat=True)) == ["one"]


def _any_of(node):
    task = Task.objects.filter(state=State.RUNNING, node=node)[0]
    assert task.token is not None
    return queue.Claim(
        task=task.pk, run=task.run_id, index=task.index, attempt=task.attempt, token=task.token
    )


def test_a_task_that_no_node_could_hold_says_so_and_blocks_nobody(crowd, make_node):
    make_node(cpus=2)
    giant = crowd.submit("a", age=9, cpus=3)
    small = crowd.submit("a")
    assert "larger node" in Run.objects.get(pk=giant.pk).message
    assert small.message == ""
    assert claimed(2) == [small.pk, None]
    make_node("two", cpus=3)
    assert claimed(node="two") == [giant.pk]


def test_what_is_given_back_keeps_its_place(crowd):
    first = crowd.submit("a", tasks=2)
    mine = claim()
    crowd.submit("a")
    queue.release(claim=mine, reason="released", text="")
    again = claim()
    assert (again.run, again.index) == (first.pk, 0)


def test_tasks_of_an_earlier_version_find_their_lanes(crowd):
    run = crowd.submit("a", tasks=3)
    Task.objects.update(lane=None, rank=None)
    Lane.objects.all().delete()
    assert claimed(4) == [run.pk] * 3 + [None]


def test_empty_lanes_go(crowd):
    crowd.submit("a", tasks=2)
    canceled = crowd.submit("b", cpus=2)
    queue.cancel(run=canceled.pk)
    for _ in range(2):
        succeed(claim())
    assert claimed() == [None]
    assert not Lane.objects.exists()


def test_two_lanes_of_one_kind_are_refused(crowd):
    crowd.submit()
    twin = Lane.objects.get()
    twin.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        twin.save(force_insert=True)


def test_outputs_are_kept_and_reserved_up_to_the_quota(crowd, setting):
    setting(max_outputs=100)
    crowd.submit("a", tasks=2, disk=30)
    with pytest.raises(QuotaExceeded, match=r"0 bytes.*60 bytes more.*50 bytes.*100"):
        crowd.submit("a", disk=50)
    crowd.submit("b", disk=100)
    mine = claim()
    kept = CollectedFile("a", 10, "", "text/plain")
    succeed(mine, outputs=[kept])
    crowd.submit("a", disk=60)
    with pytest.raises(QuotaExceeded, match="10 bytes"):
        crowd.submit("a", disk=1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("limits", "refusal"), [({"max_outputs": 35}, QuotaExceeded), ({"max_queued": 3}, TooManyQueued)]
)
def test_submissions_at_once_do_not_pass_a_quota_together(crowd, setting, limits, refusal):
    setting(**limits)
    crowd.app()
    User.objects.create(username="a")
    start, refused = threading.Barrier(6), []

    def submit():
        try:
            start.wait(10)
            crowd.submit("a", disk=10)
        except refusal as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (Task.objects.count(), len(refused)) == (3, 3)


@pytest.mark.django_db(transaction=True)
def test_concurrent_claims_and_submissions_lose_and_repeat_nothing(crowd):
    """Submissions put tasks into lanes while claims remove empty ones."""
    crowd.app()
    for name in ("a", "b"):
        User.objects.create(username=name)
    done, claims, faults = threading.Event(), [], []

    def submit(name):
        try:
            for _ in range(15):
                crowd.submit(name)
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    def work(node):
        try:
            while True:
                last = done.is_set()
                mine = queue.claim(node=node, lease=LEASE)
                if mine is not None:
                    claims.append(mine.task)
                    succeed(mine)
                elif last:
                    return
                else:  # like a worker: claims without a pause starve other writers of SQLite
                    time.sleep(0.05)
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    submitters = [threading.Thread(target=submit, args=(name,)) for name in ("a", "b")]
    workers = [threading.Thread(target=work, args=(node,)) for node in ("one", "two")]
    for thread in submitters + workers:
        thread.start()
    for thread in submitters:
        thread.join(300)
    done.set()
    for thread in workers:
        thread.join(300)
    assert faults == []
    assert len(claims) == len(set(claims)) == 30
    assert not Task.objects.exclude(state=State.SUCCESS).exists()


def test_the_position_of_a_run_is_how_many_tasks_go_first(crowd):
    """The estimate is exact if tasks are alike and nothing is submitted meanwhile."""
    for name in ("a", "b", "c"):
        crowd.submit(name)
        succeed(claim())
    runs = [
        crowd.submit("a", tasks=5, age=9),
        crowd.submit("b", tasks=2),
        crowd.submit("a"),
        crowd.submit("c", tasks=3),
        crowd.submit("a", tasks=2, priority=1),
    ]
    expected = {run.pk: position(run) for run in runs}
    started: dict[str, Any] = {}
    for count in range(13):
        mine = claim()
        started.setdefault(mine.run, count)
        succeed(mine)
    assert expected == started
    assert [position(run) for run in runs] == [None] * 5


def test_the_position_takes_what_runs_into_account(crowd):
    crowd.submit("a", tasks=4, age=9)
    assert None not in claimed(3)
    light = crowd.submit("b")
    again = crowd.submit("a")
    assert position(light) == 0
    assert position(again) == 2


@pytest.fixture
def make_live_node(make_node):
    """A node with a worker, and so many slots."""

    def make(name="one", *, slots=9, **capacity):
        node = make_node(name, **capacity)
        Node.objects.filter(pk=node.pk).update(session=uuid4(), slots=slots)
        return node

    return make


def waiting(run):
    found = waits_for(run)
    assert found is not None
    return found.cause, found.text


def test_a_queued_run_says_what_it_waits_for(crowd, make_live_node, setting):
    run = crowd.submit("a", cpus=3.0)
    assert waiting(run) == ("worker", "No worker takes tasks at the moment.")
    node = make_live_node(cpus=2.0, slots=2)
    assert waiting(run) == (
        "larger-node",
        "No node that is up is large enough: a task needs 3 processors, 1 bytes and 1 bytes of disk.",
    )
    Node.objects.filter(pk=node.pk).update(cpus=4.0)
    assert waiting(run) == ("turn", "Is next: a worker claims it soon.")
    assert claimed() == [run.pk]
    other = crowd.submit("a", cpus=2.0)
    assert waiting(other) == (
        "capacity",
        "Waits for running tasks to end: a task needs 2 processors, 1 bytes and 1 bytes of disk; "
        "1 processors are free.",
    )
    setting(max_running=1)
    assert waiting(other) == ("user-limit", "You have 1 task running; a user may have 1 at once.")
    setting(max_running=0)
    small = crowd.submit("b")
    assert claimed() == [small.pk]
    small = crowd.submit("b", cpus=0.1, memory=1)
    assert "all 2 slots of the node are taken" in waiting(small)[1]
    Node.objects.update(draining=True)
    assert waiting(small)[0] == "worker"
    assert waits_for(Run.objects.get(pk=run.pk)) is None


def test_a_queued_run_says_for_how_many_tasks_it_waits(crowd, make_live_node):
    make_live_node()
    crowd.app("licensed", max_running=1)
    first = crowd.submit("a", tasks=3, age=9, app="licensed")
    assert claimed() == [first.pk]
    assert waiting(first)[0] == "app-limit"
    assert waiting(first)[1].startswith("The App has 1 task running; it may have 1 at once.")
    crowd.submit("b", tasks=5, age=5)
    last = crowd.submit("a")
    found = waits_for(last)
    assert found is not None
    assert (found.ahead.own, found.ahead.others) == (2, 4)
    assert found.text == "About 6 tasks go first, 2 of them your own."


def test_a_running_task_says_when_its_program_wrote_last(crowd):
    run = crowd.submit()
    mine = claim()
    task = run.tasks.get()
    assert task.heard_at is not None, "the claim counts"
    Task.objects.update(heard_at=None)
    queue.heard(claim=mine)
    assert Task.objects.get().heard_at is not None
    succeed(mine)
    with pytest.raises(LostLease):
        queue.heard(claim=mine)
