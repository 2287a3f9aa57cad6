"""The engines that the tests use: suites of Debian and stores of images."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gridapps.sandbox.docker import DockerSandbox
from gridapps.sandbox.profile import INIT_BINARY
from tests.fixtures.engine import Engine
from tests.fixtures.own_engine import OwnEngine
from tests.fixtures.roots import TESTED, Root, propagated, root
from tests.sandbox.conftest import INPUT, Bench
from tests.sandbox.contract import SCRIPTS

# It makes environments of each Python: only for `make soak`.
collect_ignore = [] if os.environ.get("ENGINES") == "all" else ["test_python_server.py"]
# The gate tests the store that is the default of Docker today.
STORES = [(suite, store) for suite in TESTED for store in (True, False) if store or len(TESTED) > 1]


def name_of(parameter: tuple[str, bool]) -> str:
    suite, containerd_store = parameter
    return f"{suite}-{'containerd' if containerd_store else 'overlay2'}"


PROGRAMS = INIT_BINARY.parents[1]  # what containers get mounted from the installed package
# The platform is not tied to hardware, and gVisor's own network is not needed: containers have none.
RUNSC = '#!/bin/sh\nexec /usr/bin/runsc --platform=systrap --network=none "$@"\n'


class Node:
    """A sandbox over an engine of a newer release."""

    def __init__(self, release: Root, own: OwnEngine, scratch: Path, *, runtime: str) -> None:
        self.root = release
        self.own = own
        self.engine = Engine(own.address)
        self.sandbox = DockerSandbox(
            engine=own.address, instance=f"test-{own.directory.name.lower().replace('_', '-')}",
            scratch=scratch, quota="loop", runtime=runtime,
        )  # fmt: skip

    def docker(self, *words: str | Path) -> str:
        """The output of a command of the release's docker client."""
        status, printed = self.root.run("docker", *words, settings={"DOCKER_HOST": self.own.address})
        assert status == 0, printed
        return printed

    def close(self) -> None:
        self.engine.close()
        self.sandbox.close()


@contextmanager
def a_node(suite: str, *, containerd_store: bool, runtime: str = "") -> Iterator[Node]:
    """A running engine of a suite, and a sandbox over it. `runtime`: `runsc`, or empty for the default."""
    with (
        propagated(Path(tempfile.mkdtemp(prefix="scratch-"))) as scratch,
        root(suite, scratch, PROGRAMS) as release,
    ):
        program = release.path("/usr/local/bin/gridapps-runsc")
        program.write_text(RUNSC)
        program.chmod(0o755)
        runtimes = {"runsc": {"path": "/usr/local/bin/gridapps-runsc"}}
        own = OwnEngine(inside=release.inside, containerd_store=containerd_store, runtimes=runtimes)
        try:
            own.start()
            made = Node(release, own, scratch, runtime=runtime)
            yield made
            made.close()
            assert list(scratch.iterdir()) == []
        finally:
            own.remove()


# The fixtures of the sandbox contract, for a module with a fixture `node`.


@pytest.fixture
def bench_type() -> type[Bench]:
    return Bench


@pytest.fixture
def bench(node: Node, bench_type: type[Bench], tmp_path: Path) -> Iterator[Bench]:
    source = tmp_path / "in.laz"
    source.write_bytes(INPUT)
    made = bench_type(node.sandbox, source)
    yield made
    made.close()


@pytest.fixture(scope="module")
def programs(node: Node) -> dict[str, str]:
    made = {name: node.engine.image(command=[script]) for name, script in SCRIPTS.items()}
    return made | {"refused": node.engine.image(entrypoint=["/nothing"])}


@pytest.fixture
def image(programs: dict[str, str]) -> Callable[[str], str]:
    return programs.__getitem__


@pytest.fixture
def spare(node: Node) -> str:
    return node.engine.image(command=[SCRIPTS["sleep"]])
