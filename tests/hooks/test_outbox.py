"""Events for hooks are written in the transaction of the change."""

import threading
import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from gridapps.exports import operations as exports
from gridapps.hooks import deliveries, operations, outbox
from gridapps.hooks.errors import HookConflict, HookNotFound, InvalidHook
from gridapps.hooks.events import OFFERED, Event
from gridapps.hooks.models import Delivery, Hook
from gridapps.runs import queue
from gridapps.runs.models import Run
from gridapps.runs.states import State
from tests.runs.test_queue import LEASE, claim, succeed

pytestmark = pytest.mark.django_db
TARGET = "https://example.org/hook"


@pytest.fixture
def hook(cast) -> Hook:
    return operations.create(by=cast.analyst, target=TARGET, events=OFFERED)


def due(*, lease: timedelta = LEASE) -> deliveries.DeliveryClaim:
    """The next delivery, which must exist."""
    found = deliveries.claim(lease=lease)
    assert found is not None
    return found


def noted(hook: Hook) -> list[tuple[str, str, float]]:
    return [
        (row.event, row.facts["run"]["state"], row.facts["run"]["progress"])
        for row in hook.deliveries.order_by("pk")
    ]


def test_a_run_is_told_of_from_its_start_to_its_end(hook, make_run):
    run = make_run(points=(100, 100))
    assert noted(hook) == []
    first, second = claim(), claim()
    succeed(first)
    succeed(second)
    # The progress event was still waiting, and the final event replaces it.
    assert noted(hook) == [("run.started", "RUNNING", 0), ("run.complete", "SUCCESS", 1)]
    (_, last) = hook.deliveries.order_by("pk")
    assert last.facts["run"] == {
        "id": str(run.pk), "task_id": str(run.pk), "app": "buildings", "state": "SUCCESS", "progress": 1.0,
        "reason": None, "url": f"https://localhost:5443/api/v3/runs/{run.pk}",
    }  # fmt: skip


def test_a_canceled_run_was_never_started(hook, make_run):
    queue.cancel(run=make_run().pk)
    assert noted(hook) == [("run.complete", "CANCELED", 0)]


def test_a_second_attempt_is_no_second_start(hook, make_run):
    make_run()
    queue.release(claim=claim(), reason="platform", text="gone")
    queue.finish(claim=claim(), state=State.FAILURE, reason="exit", text="It ended with 3.")
    assert [event for event, _, _ in noted(hook)] == ["run.started", "run.complete"]
    assert hook.deliveries.last().facts["run"]["reason"] == "exit"


def test_progress_is_told_once_until_it_was_delivered_and_then_at_a_pace(hook, make_run):
    make_run()
    mine = claim()
    for step in range(1, 6):
        queue.progress(claim=mine, fraction=step / 10, message="")
    queue.progress(claim=mine, fraction=0.5, message="only words")
    assert noted(hook)[1:] == [("run.progress", "RUNNING", 0.5)]
    start = due()
    deliveries.delivered(claim=start, status=200)
    flying = due()
    assert flying.event == Event.RUN_PROGRESS
    queue.progress(claim=mine, fraction=0.6, message="")
    # A claimed event is not changed; the next one is due later.
    assert [progress for _, _, progress in noted(hook)[1:]] == [0.5, 0.6]
    deliveries.delivered(claim=flying, status=200)
    assert deliveries.claim(lease=LEASE) is None
    later = hook.deliveries.get(state="waiting").due_at
    assert timedelta(seconds=1) < later - timezone.now() <= outbox.PACE


def test_nothing_is_told_of_what_was_rolled_back(hook, make_run):
    make_run()
    mine = claim()
    Delivery.objects.all().delete()
    with suppress(ZeroDivisionError), transaction.atomic():
        succeed(mine)
        assert Delivery.objects.count() == 1
        raise ZeroDivisionError
    assert Delivery.objects.count() == 0
    assert Run.objects.get().state == State.RUNNING


def test_only_the_owners_active_hooks_that_asked_are_told(cast, hook, make_run):
    other = operations.create(by=cast.outsider, target=TARGET, events=OFFERED)
    asleep = operations.create(by=cast.analyst, target=TARGET, events=OFFERED)
    operations.change(by=cast.analyst, pk=asleep.pk, changes={"active": False})
    ends = operations.create(by=cast.analyst, target=TARGET, events=["run.complete"])
    make_run()
    succeed(claim())
    assert [each.deliveries.count() for each in (hook, other, asleep, ends)] == [2, 0, 0, 1]


def test_a_hook_of_one_run_tells_of_no_other_and_is_tidied_away(cast, make_run):
    mine, other = make_run(), make_run()
    bound = operations.bind(by=cast.analyst, run=mine.pk, target=TARGET, secret="s" * 16, events=[])
    for _ in range(2):
        succeed(claim())
    assert {row.subject for row in bound.deliveries.all()} == {f"run:{mine.pk}"}
    assert [row.event for row in bound.deliveries.order_by("pk")] == ["run.started", "run.complete"]
    deliveries.tidy()
    assert Hook.objects.get(pk=bound.pk).done_at is not None
    long_ago = timezone.now() - timedelta(days=8)
    bound.deliveries.update(state="delivered", settled_at=long_ago)
    Hook.objects.update(done_at=long_ago)
    deliveries.tidy()
    assert not Hook.objects.exists()
    assert Run.objects.filter(pk=other.pk).exists()


def test_an_import_is_told_of(hook, cast, tmp_path):
    from tests.exports.conftest import SHARED

    file = SHARED / "single" / "test1_4.las"
    if not file.exists():
        pytest.skip("the shared point clouds are absent")
    export = exports.import_export(owner=cast.analyst, name="city", files=[file])
    row = hook.deliveries.get()
    assert (row.event, row.facts["export"]["pk"], row.facts["export"]["name"]) == (
        "export.complete", str(export.pk), "city",
    )  # fmt: skip


def test_what_belongs_together_goes_in_order_and_others_do_not_wait(hook, make_run):
    make_run(), make_run()
    succeed(claim())
    succeed(claim())
    started = [due() for _ in range(2)]
    assert [each.event for each in started] == ["run.started"] * 2
    assert deliveries.claim(lease=LEASE) is None  # both final events wait for the first ones
    deliveries.delivered(claim=started[0], status=200)
    end = due()
    assert (end.event, end.facts["run"]["id"]) == ("run.complete", started[0].facts["run"]["id"])


def test_a_lease_that_ran_out_gives_the_delivery_to_another_who_alone_settles_it(hook, make_run):
    make_run()
    claim()
    lost = due(lease=timedelta(seconds=-1))
    again = due()
    assert (again.key, again.tries) == (lost.key, 2)
    deliveries.failed(claim=lost, status=500, error="late", pause=1)
    assert hook.deliveries.get().error == ""
    deliveries.delivered(claim=again, status=204)
    assert hook.deliveries.get().state == "delivered"


def test_nobody_takes_all_the_room(cast, make_run):
    for name in ("slow", "other", "third"):
        operations.create(by=cast.analyst, target=f"https://{name}.example/", events=OFFERED)
    light = operations.create(by=cast.outsider, target="https://light.example/", events=OFFERED)
    for _ in range(20):
        make_run(owner="analyst")
    for _ in range(20):
        claim()
    make_run(owner="outsider")
    claim()
    taken = [mine for _ in range(30) if (mine := deliveries.claim(lease=LEASE))]
    owners = [mine.hook == light.pk for mine in taken]
    assert (owners.count(True), owners.count(False)) == (1, deliveries.PER_OWNER)
    sites = [mine.target for mine in taken]
    assert max(map(sites.count, sites)) == deliveries.PER_SITE


def test_a_hook_that_is_made_inactive_forgets(cast, hook, make_run):
    make_run()
    succeed(claim())
    operations.change(by=cast.analyst, pk=hook.pk, changes={"active": False})
    assert hook.deliveries.count() == 0


def test_what_is_refused(cast, hook, settings):
    with pytest.raises(InvalidHook, match="target"):
        operations.create(by=cast.analyst, target="https://10.0.0.1/", events=OFFERED)
    with pytest.raises(InvalidHook) as error:
        operations.create(by=cast.analyst, target=TARGET, events=["newdata.loaded"])
    assert "catalogue" in error.value.fields[0][1]
    for events in ([], ["run.died"], ["hook.test"]):
        with pytest.raises(InvalidHook):
            operations.create(by=cast.analyst, target=TARGET, events=events)
    with pytest.raises(InvalidHook):
        operations.bind(by=cast.analyst, run=uuid.uuid4(), target=TARGET, secret="short", events=[])
    with pytest.raises(HookNotFound):
        operations.delete(by=cast.outsider, pk=hook.pk)
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"max_hooks": 1})
    with pytest.raises(HookConflict, match="1 hooks"):
        operations.create(by=cast.analyst, target=TARGET, events=OFFERED)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("delivery_settled_exactly_when_not_waiting", {"state": "delivered"}),
        ("delivery_leased_exactly_with_token", {"token": uuid.uuid4()}),
    ],
)
def test_constraints(hook, make_run, name, changes):
    make_run()
    claim()
    with pytest.raises(IntegrityError, match=name), transaction.atomic():
        Delivery.objects.update(**changes)


@pytest.mark.django_db(transaction=True)
def test_a_hook_deleted_while_its_event_is_noted_is_not_told(cast, hook):
    def facts():
        operations.delete(by=cast.analyst, pk=hook.pk)
        return {}

    outbox.note(event=Event.RUN_STARTED, owner=cast.analyst.pk, subject=f"run:{uuid.uuid4()}", facts=facts)
    assert not Hook.objects.exists()
    assert not Delivery.objects.exists()


def _delete(hook):
    operations.delete(by=hook.owner, pk=hook.pk)


def _gone(hook):
    deliveries.gone(claim=due())


def _tidy(hook):
    deliveries.tidy()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("delete", [_delete, _gone, _tidy])
def test_a_deletion_does_not_break_the_transaction_that_notes_an_event(hook, delete):
    run = uuid.uuid4()
    if delete is _tidy:
        Hook.objects.update(done_at=timezone.now() - timedelta(days=30))
    else:
        operations.test(by=hook.owner, pk=hook.pk)
    faults = []

    def remove():
        try:
            delete(hook)
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=remove)
    with transaction.atomic():
        outbox.note(event=Event.RUN_STARTED, owner=hook.owner.pk, subject=f"run:{run}", facts=dict)
        thread.start()
        thread.join(1)  # time for a deletion that ignores the lock
    thread.join(120)
    assert faults == []
    left = 1 if delete is _tidy else 0  # an event waits, so the hook stays
    assert (Hook.objects.count(), Delivery.objects.count()) == (left, left)


@pytest.mark.django_db(transaction=True)
def test_several_couriers_never_take_the_same(cast, make_run):
    for number in range(8):
        operations.create(by=cast.analyst, target=f"https://h{number}.example/", events=OFFERED)
    make_run()
    claim()
    keys, guard = [], threading.Lock()

    def take():
        from django.db import connections

        while (mine := deliveries.claim(lease=LEASE)) is not None:
            with guard:
                keys.append(mine.key)
            deliveries.delivered(claim=mine, status=200)
        connections.close_all()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == len(set(keys)) == 8
