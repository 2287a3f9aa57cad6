"""The bell across machines: a call reaches every node, and a failing broker does not delay the caller."""

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from gridapps.config.celery import TIMEOUT
from gridapps.runs import worker_bell
from tests.fixtures.broker import Broker, start_broker

CALL = """
import sys, time, django
django.setup()
from gridapps.runs import worker_bell
for line in sys.stdin:
    began = time.monotonic()
    worker_bell.ring()
    print(time.monotonic() - began, flush=True)
"""


class Machine:
    """A node as the bell sees it: a data directory with a worker's socket, and a process that listens."""

    def __init__(self, name: str, broker: Broker) -> None:
        self.name = name
        self.data = Path(tempfile.mkdtemp(prefix="m-"))
        self._environment = {
            **os.environ,
            "GRIDAPPS_DATA": str(self.data),
            "GRIDAPPS_BROKER": broker.url,
            "DJANGO_SETTINGS_MODULE": "gridapps.config.settings",
        }
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Machine":
        django_settings.DATA = self.data
        self.bell = self._open.enter_context(worker_bell.WorkerBell("worker"))
        words = [sys.executable, "-m", "gridapps.server.listener", self.name, str(os.getpid())]
        self.listener = self._start(words)
        self.caller = self._start([sys.executable, "-c", CALL])
        return self

    def _start(self, words: list[str]) -> subprocess.Popen[bytes]:
        with (self.data / "log").open("ab") as log:
            process = subprocess.Popen(
                words, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._open.callback(process.wait)
        self._open.callback(process.kill)
        return process

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def ring(self) -> float:
        """Ring from a process of this machine; return how many seconds the call took."""
        assert self.caller.stdin is not None
        assert self.caller.stdout is not None
        self.caller.stdin.write(b"ring\n")
        self.caller.stdin.flush()
        return float(self.caller.stdout.readline())

    def hears(self, seconds: float) -> bool:
        """Whether the bell rings within this time."""
        began = time.monotonic()
        self.bell.wait(seconds)
        return time.monotonic() - began < seconds - 0.01

    def celery(self, *words: str) -> str:
        command = [sys.executable, "-m", "celery", "-A", "gridapps.config.celery", *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    found = start_broker(request.param)
    yield found
    found.remove()


@pytest.fixture(scope="module")
def machines(broker: Broker) -> Iterator[tuple[Machine, Machine]]:
    """Two machines that hear each other."""
    before = django_settings.DATA
    with Machine("one", broker) as one, Machine("two", broker) as two:
        _until_heard(one, two)
        _until_heard(two, one)
        yield one, two
    django_settings.DATA = before


def _until_heard(caller: Machine, hearer: Machine) -> None:
    end = time.monotonic() + 90  # on a busy machine
    while True:
        caller.ring()
        if hearer.hears(0.5):
            break
        assert time.monotonic() < end, (hearer.data / "log").read_text()
    while hearer.hears(0.5):  # discard late rings
        pass


def test_a_ring_reaches_every_machine(machines):
    one, two = machines
    for _ in range(3):
        one.ring()
        assert two.hears(5)
        assert one.hears(60)
        while two.hears(0.2) or one.hears(0.2):
            pass


def test_celerys_own_tools_find_every_node(machines):
    one, _ = machines
    shown = one.celery("inspect", "ping", "--timeout", "2")
    assert "gridapps@one: OK" in shown
    assert "gridapps@two: OK" in shown


def test_the_broker_keeps_nothing_of_callers(machines, broker):
    """A queue without a reader would grow for ever."""
    one, _ = machines
    for _ in range(5):
        one.ring()
    time.sleep(0.5)
    from kombu import Connection

    with Connection(broker.url) as connection:
        channel: Any = connection.channel()
        if broker.kind == "rabbitmq":
            with pytest.raises(connection.channel_errors, match="NOT_FOUND"):
                channel.queue_declare("celery", passive=True)
        else:
            stored = channel.client.keys()
            assert [key for key in stored if b"kombu" not in key] == []


@pytest.mark.parametrize("trouble", ["killed", "silent"])
def test_a_broker_in_trouble_costs_the_caller_nothing_and_is_found_again(machines, broker, trouble):
    one, two = machines
    broker.kill() if trouble == "killed" else broker.pause()
    try:
        assert max(one.ring() for _ in range(20)) < TIMEOUT
        assert one.hears(60), "the bell of the machine itself needs no broker"
        time.sleep(1.5)  # time for one more attempt
        assert max(one.ring() for _ in range(20)) < TIMEOUT
    finally:
        broker.start() if trouble == "killed" else broker.resume()
    _until_heard(one, two)
    _until_heard(two, one)


def test_a_broker_that_never_was_costs_the_caller_nothing(tmp_path):
    nowhere = Broker("rabbitmq", address="192.0.2.1", directory=tmp_path)
    with _caller_only(nowhere) as machine:
        assert max(machine.ring() for _ in range(50)) < TIMEOUT
        assert "password" not in (machine.data / "log").read_text()


@contextlib.contextmanager
def _caller_only(broker: Broker) -> Iterator[Machine]:
    before = django_settings.DATA
    try:
        with Machine(secrets.token_hex(3), broker) as machine:
            yield machine
    finally:
        django_settings.DATA = before
