"""Nodes: their rows, which worker may act for one, and draining."""

import shutil
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from gridapps.runs import nodes, queue
from gridapps.runs.capacity import Capacity
from gridapps.runs.errors import NodeTaken
from gridapps.runs.models import Node, Task
from gridapps.runs.nodes import Speaker
from gridapps.runs.states import State
from tests.runs.test_queue import LEASE

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
    """Without workers: rows only."""

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


def test_a_node_offers_what_is_free_and_what_its_workspaces_hold(tmp_path):
    free = Capacity.of_machine(tmp_path).disk
    assert free <= shutil.disk_usage(tmp_path).total
    # A tebibyte is more than the free space changes meanwhile.
    assert Capacity.of_machine(tmp_path, held=1024**4).disk - free == pytest.approx(1024**4, rel=0.01)
