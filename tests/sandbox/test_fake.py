"""The fake sandbox: the contract, and what only the fake does."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridapps.sandbox.fake import Call, Ending, FakeSandbox
from gridapps.sandbox.protocol import EngineUnavailable
from tests.sandbox.conftest import INPUT, Bench
from tests.sandbox.contract import SandboxContract


def copy(call: Call) -> int:
    call.stdout.write(call.arguments)
    (call.output / "copy").write_bytes(call.input.read_bytes())
    return 0


def fail(call: Call) -> int:
    call.stderr.write(b"one\ntwo")
    return 3


def sleep(call: Call) -> int:
    call.stderr.write(b"ready\n")
    call.canceled.wait(60)
    return 9


def stubborn(call: Call) -> int:
    call.stderr.write(b"ready\n")
    while True:
        call.stderr.write(b"")  # fails when it was killed
        time.sleep(0.02)


def refused(call: Call) -> int:
    raise Ending(exit_code=127, not_started="The entry point does not exist.")


def hungry(call: Call) -> int:
    raise Ending(exit_code=137, out_of_memory=True)


PROGRAMS = {program.__name__: program for program in (copy, fail, sleep, stubborn, refused, hungry)}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "scratch").mkdir()
    source = tmp_path / "in.laz"
    source.write_bytes(INPUT)
    bench = Bench(FakeSandbox(scratch=tmp_path / "scratch", programs=PROGRAMS), source)
    yield bench
    bench.close()


@pytest.fixture
def image() -> Callable[[str], str]:
    return str


@pytest.fixture
def spare() -> str:
    return "sleep"


class TestFake(SandboxContract):
    """The suite over the fake."""

    def test_an_ending_can_be_played(self, bench: Bench, image: Callable[[str], str]) -> None:
        assert bench.run(image("hungry")).ended.out_of_memory

    def test_an_engine_can_be_away(self, bench: Bench, image: Callable[[str], str]) -> None:
        assert isinstance(bench.sandbox, FakeSandbox)
        name = bench.start(image("sleep"))
        bench.sandbox.available = False
        with pytest.raises(EngineUnavailable):
            bench.sandbox.wait(name, timeout=0)
        bench.sandbox.available = True
        assert bench.sandbox.wait(name, timeout=0) is None
