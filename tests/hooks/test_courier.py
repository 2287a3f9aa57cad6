"""The courier against a real receiver: signatures, retries, removal after 410, and kills."""

import hashlib
import hmac
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest

from gridapps.hooks import courier as couriers
from gridapps.hooks import courier_bell, deliveries, operations
from gridapps.hooks.courier import Courier
from gridapps.hooks.events import OFFERED
from gridapps.hooks.models import Delivery, Hook
from gridapps.hooks.posting import Poster
from tests.runs.test_queue import claim, succeed

pytestmark = pytest.mark.django_db(transaction=True)


LONG = timedelta(hours=1)


@contextmanager
def courier(receiver, settings, **more):
    own = settings.GRIDAPPS
    poster = Poster(rules=own.hook_rules(), timeout=own.hook_timeout, ca=receiver.ca)
    mine = Courier(poster=poster, pause=own.hook_pause, **{"lease": timedelta(seconds=30), **more})
    thread = threading.Thread(target=mine.run)
    thread.start()
    try:
        yield mine
    finally:
        mine.stop()
        thread.join(120)
        assert not thread.is_alive()


@pytest.fixture
def awake(monkeypatch):
    """A courier that polls often."""
    monkeypatch.setattr(couriers, "SLEEP", 0.05)


def wait_until(condition, *, seconds=120.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, list(Delivery.objects.values())
        time.sleep(0.02)


@pytest.fixture
def make_hook(cast, receiver):
    def make(path="/ok", *, events=OFFERED, by=None):
        return operations.create(by=by or cast.analyst, target=receiver.url(path), events=events)

    return make


def settled():
    return not Delivery.objects.filter(state="waiting").exists()


def signed(request, secret):
    """Check the signature as a receiver does, from the documentation."""
    message = request.headers["X-GRiD-Timestamp"].encode("ascii") + b"." + request.body
    expected = "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, request.headers["X-GRiD-Signature"])


def test_a_run_is_told_of_at_once_in_order_and_signed(receiver, settings, make_hook, make_run, monkeypatch):
    monkeypatch.setattr(couriers, "SLEEP", LONG.total_seconds())  # it does not poll
    hook = make_hook()
    with courier(receiver, settings, lease=LONG):
        run = make_run()
        succeed(claim())
        first, second = receiver.wait_for(2)
        wait_until(settled)
    assert [each.told["event"] for each in (first, second)] == ["run.started", "run.complete"]
    assert first.told["run"]["id"] == str(run.pk)
    for each in (first, second):
        assert each.headers["X-GRiD-Event"] == each.told["event"]
        assert each.headers["X-GRiD-Delivery"] == each.told["delivery"]
        assert each.headers["Content-Type"] == "application/json"
        assert abs(time.time() - int(each.headers["X-GRiD-Timestamp"])) < 60
        assert signed(each, hook.secret)
        assert not signed(each, hook.secret + "x")
    assert {row.state for row in hook.deliveries.all()} == {"delivered"}


def test_a_target_that_fails_is_tried_again_with_growing_pauses(
    awake, receiver, settings, make_hook, make_run
):
    make_hook("/fails/2", events=["run.started"])
    with courier(receiver, settings):
        make_run()
        claim()
        one, two, three = receiver.wait_for(3)
        wait_until(settled)
    row = Delivery.objects.get()
    assert (row.state, row.tries, row.status, row.error) == ("delivered", 3, 200, "")
    assert two.at - one.at >= 0.05
    assert three.at - two.at >= 0.3
    assert len({each.headers["X-GRiD-Delivery"] for each in (one, two, three)}) == 1


def test_five_tries_and_no_more(  # noqa: PLR0917 - fixtures
    awake, receiver, settings, make_hook, make_run, monkeypatch
):
    monkeypatch.setattr(deliveries, "PAUSES", (1, 1, 1, 1))
    make_hook("/status/500", events=["run.started"])
    with courier(receiver, settings):
        make_run()
        claim()
        wait_until(settled)
    row = Delivery.objects.get()
    assert (row.state, row.tries, row.status) == ("failed", 5, 500)
    assert row.error == "It answered with 500."
    assert len(receiver.requests) == 5


def test_gone_is_gone(receiver, settings, make_hook, make_run):
    make_hook("/status/410")
    with courier(receiver, settings):
        make_run()
        succeed(claim())
        wait_until(lambda: not Hook.objects.exists())
    assert len(receiver.requests) == 1


def test_a_test_is_tried_once_and_its_result_can_be_seen(receiver, settings, make_hook, cast):
    hook = make_hook("/redirect")
    asked = operations.test(by=cast.analyst, pk=hook.pk)
    assert operations.test(by=cast.analyst, pk=hook.pk) == asked
    with courier(receiver, settings):
        wait_until(settled)
    row = Delivery.objects.get()
    assert (row.event, row.state, row.tries, row.status) == ("hook.test", "failed", 1, 307)
    assert receiver.requests[0].told.keys() == {"event", "hook", "delivery", "created_at"}


def test_a_renewed_secret_signs_what_waits(receiver, settings, make_hook, cast):
    hook = make_hook()
    operations.test(by=cast.analyst, pk=hook.pk)
    renewed = operations.renew_secret(by=cast.analyst, pk=hook.pk)
    with courier(receiver, settings):
        wait_until(settled)
    assert renewed.secret != hook.secret
    assert signed(receiver.requests[0], renewed.secret)


def test_slow_targets_hold_up_nobody(  # noqa: PLR0917 - fixtures
    receiver, settings, make_hook, make_run, cast, authority
):
    from tests.hooks.receiver import receiving

    # A slow target holds its deliveries until the test releases them.
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"hook_timeout": 600.0})
    with receiving(authority) as slow:
        for _ in range(3):
            operations.create(by=cast.analyst, target=slow.url("/held"), events=["run.started"])
        make_hook(by=cast.outsider, events=["run.complete"])
        for _ in range(10):
            make_run(owner="analyst")
            claim()
        with courier(receiver, settings):
            slow.wait_for(1)
            try:
                make_run(owner="outsider")
                succeed(claim())
                receiver.wait_for(1)
                assert not Delivery.objects.filter(event="run.started").exclude(state="waiting").exists()
                assert slow.most_at_once <= deliveries.PER_SITE
            finally:
                slow.release.set()


PROGRAM = """
import django, sys
django.setup()
from datetime import timedelta
from django.conf import settings
from gridapps.hooks.courier import Courier
from gridapps.server.commands.part_commands import courier_of
settings.DATABASES["default"]["NAME"] = sys.argv[1]
mine = courier_of(settings.GRIDAPPS)
mine._lease = timedelta(seconds=2)
mine.run()
"""


def test_a_killed_courier_loses_nothing(  # noqa: PLR0917 - fixtures
    awake, receiver, settings, make_hook, make_run, tmp_path
):
    from django.db import connection

    held = make_hook("/held", events=["run.started"])
    make_run()
    claim()
    (tmp_path / "secret-key").write_text(settings.SECRET_KEY)
    environment = os.environ | {
        "GRIDAPPS_DATA": str(tmp_path), "GRIDAPPS_HOOK_NETWORKS": "127.0.0.1/32",
        "GRIDAPPS_HOOK_CA": receiver.ca, "GRIDAPPS_HOOK_TIMEOUT": "20",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(connection.settings_dict["NAME"])], env=environment
    )
    try:
        receiver.wait_for(1, seconds=40)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    row = Delivery.objects.get()
    assert (row.state, row.token is None) == ("waiting", False)
    with courier(receiver, settings):
        second = receiver.wait_for(2)[1]
        receiver.release.set()
        wait_until(settled)
    assert second.headers["X-GRiD-Delivery"] == str(row.key)
    assert held.deliveries.get().state == "delivered"
    courier_bell.ring()
    assert not list((tmp_path / "run" / "bells").glob("*.courier"))  # left by the killed courier


def test_a_secret_that_cannot_be_read_ends_its_delivery_and_no_other(receiver, settings, make_hook, make_run):
    lost, kept = make_hook("/lost", events=["run.started"]), make_hook("/kept", events=["run.started"])
    key = settings.SECRET_KEY
    settings.SECRET_KEY = "another"
    lost.secret = "opensesame"
    lost.save()
    settings.SECRET_KEY = key
    make_run()
    claim()
    with courier(receiver, settings):
        receiver.wait_for(1)
        wait_until(settled)
    found = lost.deliveries.get()
    assert (found.state, found.error) == ("failed", "The hook's secret cannot be read: renew it.")
    assert kept.deliveries.get().state == "delivered"
