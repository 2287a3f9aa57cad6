"""gVisor of Debian 13 as the runtime: the sandbox contract, and programs that use up what they get."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gridapps.sandbox.protocol import Launch
from tests.engines.conftest import Node, a_node
from tests.fixtures.engine import Engine
from tests.fixtures.roots import TESTED
from tests.sandbox.conftest import LIMITS, MIB, Bench
from tests.sandbox.contract import SandboxContract

pytestmark = pytest.mark.skipif(len(TESTED) == 1, reason="only in the soak")
# The threads of gVisor itself count against the limit of processes.
WIDE = replace(LIMITS, processes=256)


class WideBench(Bench):
    def launch(self, image: str, **changes: Any) -> Launch:
        return super().launch(image, **{"limits": WIDE, **changes})


@pytest.fixture(scope="module")
def node(engine: Engine) -> Iterator[Node]:
    with a_node("trixie", containerd_store=True, runtime="runsc") as made:
        yield made


@pytest.fixture
def bench_type() -> type[Bench]:
    return WideBench


class TestUnderGvisor(SandboxContract):
    """gVisor keeps the contract."""


def test_kernel_of_the_container_is_gvisor(node: Node, bench: Bench) -> None:
    assert "4.4.0" in bench.run(node.engine.image(command=["uname -r"])).stdout
    node.sandbox.try_out()


def test_a_program_that_uses_all_memory(node: Node, bench: Bench) -> None:
    script = "dd if=/dev/zero of=/tmp/x bs=1M count=1000"
    ended = bench.run(node.engine.image(command=[script])).ended
    assert ended.exit_code != 0


def test_a_program_that_fills_the_disk(node: Node, bench: Bench) -> None:
    result = bench.run(node.engine.image(command=["dd if=/dev/zero of=/grid/x bs=1M count=1000"]))
    assert result.ended.exit_code != 0
    assert result.ended.out_of_disk
    assert (result.outputs / "x").stat().st_size <= LIMITS.disk + 8 * MIB


def test_system_calls_that_are_not_allowed_fail(node: Node, bench: Bench) -> None:
    script = "mount -t tmpfs x /tmp; echo x > /bin/x; echo x > /proc/sys/kernel/hostname; mkdir /sys/x; id -u"
    result = bench.run(node.engine.image(command=[script]))
    assert len(result.log) == 4
    assert int(result.stdout) >= 2_000_000_000
