"""The bell wakes a sleeping worker at once, and never delays the caller."""

import threading
import time

import pytest
from django.db import transaction

from gridapps.runs import worker_bell


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.DATA = tmp_path


def test_a_ring_ends_the_wait():
    with worker_bell.WorkerBell("one") as mine:
        threading.Timer(0.1, worker_bell.ring).start()
        began = time.monotonic()
        mine.wait(30)
        assert time.monotonic() - began < 10


def test_without_a_ring_the_wait_ends_in_time():
    with worker_bell.WorkerBell("one") as mine:
        mine.wait(0.05)


def test_many_rings_are_one():
    with worker_bell.WorkerBell("one") as mine:
        for _ in range(10_000):  # more than a socket holds
            worker_bell.ring()
        mine.wait(30)
        began = time.monotonic()
        mine.wait(0.2)
        assert time.monotonic() - began >= 0.19


def test_a_worker_that_is_gone_is_skipped(tmp_path):
    with worker_bell.WorkerBell("gone") as gone:
        path = gone.path
    path.touch()  # left by a killed worker
    worker_bell.ring()


@pytest.mark.django_db(transaction=True)
def test_nobody_is_woken_before_the_commit_or_for_nothing():
    with worker_bell.WorkerBell("one") as mine:
        mine._socket.setblocking(False)
        with transaction.atomic():
            worker_bell.ring_on_commit()
            with pytest.raises(BlockingIOError):
                mine._socket.recv(1)
        assert mine._socket.recv(1)
