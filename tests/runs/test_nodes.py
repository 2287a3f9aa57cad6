"""Nodes: what their rows say, who may speak for one, and what the administrators' word does."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from gridapps.runs import nodes, queue
from gridapps.runs.errors import NodeTaken
from gridapps.runs.execution import Node as Site
from gridapps.runs.models import Node, Task
from gridapps.runs.nodes import Capacity, Speaker
from gridapps.runs.states import State
from gridapps.runs.worker import Worker
from gridapps.sandbox.fake import FakeSandbox
from tests.runs.test_queue import LEASE
from tests.runs.test_worker import Stage, ended, running, sleeper, until

ROOM = Capacity(slots=2, cpus=2, memory=10**9, disk=10**9)


def speaker(*, place="here", **changes):
    return Speaker(
        **{"node": "one", "session": uuid4(), "place": place, "capacity": ROOM, "lease": LEASE} | changes
    )


def silent_since(seconds):
    seen = Node.objects.get().last_seen_at
    Node.objects.update(last_seen_at=seen - timedelta(seconds=seconds))


@pytest.mark.django_db
class TestWhoSpeaks:
    """Rows alone."""

    def test_a_worker_describes_its_node(self):
        mine = speaker()
        nodes.register(mine)
        nodes.report(mine, engine_version="docker 1", engine_latency=0.25)
        row = Node.objects.get()
        assert (row.name, row.slots, row.cpus, row.memory, row.disk) == ("one", 2, 2, 10**9, 10**9)
        assert (row.engine_version, row.engine_latency, row.draining) == ("docker 1", 0.25, False)
        assert row.version

    def test_a_worker_elsewhere_is_refused_until_the_lease_is_over(self):
        first, second = speaker(), speaker(place="there")
        nodes.register(first)
        nodes.register(first)
        with pytest.raises(NodeTaken, match="GRIDAPPS_NODE"):
            nodes.register(second)
        silent_since(61)
        nodes.register(second)
        with pytest.raises(NodeTaken):
            nodes.report(first, engine_version="", engine_latency=None)
        assert Node.objects.get().session == second.session

    def test_a_successor_in_the_same_place_need_not_wait(self):
        nodes.register(speaker())
        second = speaker()
        nodes.register(second)
        assert Node.objects.get().session == second.session

    def test_who_signed_off_is_not_waited_for(self):
        first = speaker()
        nodes.register(first)
        nodes.sign_off(first)
        nodes.register(speaker(place="there"))

    def test_a_row_that_was_deleted_is_written_again(self):
        mine = speaker()
        nodes.register(mine)
        Node.objects.all().delete()
        nodes.report(mine, engine_version="", engine_latency=None)
        assert Node.objects.get().session == mine.session

    def test_a_worker_that_speaks_no_more_claims_nothing(self, make_run):
        make_run()
        first = speaker()
        nodes.register(first)
        nodes.register(speaker())
        assert queue.claim(node="one", lease=LEASE, session=first.session) is None
        assert Task.objects.get().state == State.QUEUED

    def test_a_draining_node_claims_nothing(self, make_run):
        make_run()
        mine = speaker()
        nodes.register(mine)
        Node.objects.update(draining=True)
        assert queue.claim(node="one", lease=LEASE, session=mine.session) is None
        Node.objects.update(draining=False)
        assert queue.claim(node="one", lease=LEASE, session=mine.session)

    @pytest.mark.parametrize("name", ["slots", "cpus", "memory", "disk"])
    def test_the_database_refuses_a_node_without_room(self, name):
        nodes.register(speaker())
        with pytest.raises(IntegrityError, match="node_capacity_is_positive"), transaction.atomic():
            Node.objects.update(**{name: 0})


def test_what_is_not_set_is_the_machines(tmp_path):
    found = Capacity.of_machine(tmp_path)
    assert found.cpus == found.slots >= 1
    assert found.memory > 2**28
    assert found.disk > 2**28
    assert Capacity.of_machine(tmp_path, slots=999).cpus == 999
    assert Capacity.of_machine(tmp_path, slots=9, cpus=1, memory=2, disk=3) == Capacity(
        slots=9, cpus=1, memory=2, disk=3
    )


@pytest.mark.django_db(transaction=True)
def test_of_two_machines_with_one_name_the_second_stops_and_harms_nothing(
    settings, tmp_path, make_run, release
):
    from gridapps.registry import images

    settings.DATA = tmp_path
    (tmp_path / "exports").mkdir()
    stage = Stage(tmp_path, make_run, images.reference(release))
    with stage.worker() as first:
        run = stage.run(sleeper)
        until(lambda: running(run))
        there = tmp_path / "there"
        there.mkdir()
        second = Worker(
            node=Site(
                name="one", instance="test", max_log=10**6,
                sandbox=FakeSandbox(scratch=there / "scratch", programs=stage.programs),
            ),
            slots=2, lease=LEASE, on_stop="requeue", lock=there / "one.lock",
        )  # fmt: skip
        with pytest.raises(NodeTaken):
            second.run()
        assert [resident.running for resident in stage.residents()] == [True]
        assert running(run)
        assert Node.objects.get().session == first._session


@pytest.mark.django_db(transaction=True)
def test_a_worker_whose_node_was_taken_over_ends_its_containers_and_itself(
    settings, tmp_path, make_run, release, monkeypatch
):
    from gridapps.registry import images
    from gridapps.runs import execution, worker

    monkeypatch.setattr(execution, "LOOK", 0.02)
    monkeypatch.setattr(worker, "BEAT", 0.02)
    monkeypatch.setattr(worker, "PULSE", 0.1)
    settings.DATA = tmp_path
    (tmp_path / "exports").mkdir()
    (tmp_path / "run").mkdir()
    stage = Stage(tmp_path, make_run, images.reference(release))
    cut_off = Worker(
        node=Site(name="one", instance="test", sandbox=stage.sandbox, max_log=10**6),
        slots=2, lease=LEASE, on_stop="requeue", lock=tmp_path / "one.lock",
    )  # fmt: skip
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
    # Its reports did not come through for a lease, and another machine has taken over.
    Node.objects.update(session=uuid4(), place="there")
    thread.join(20)
    assert len(ends) == 1
    assert stage.residents() == []
    assert not ended(run)
