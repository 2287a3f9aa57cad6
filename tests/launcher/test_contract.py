"""The contract through the launcher, over the fake and over the real engine."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.fixtures.engine import Engine
from tests.fixtures.plain_registry import PlainRegistry, plain_registry
from tests.launcher.conftest import Launcher, open_to_all, reference
from tests.sandbox.conftest import INPUT, Bench
from tests.sandbox.contract import SCRIPTS, SandboxContract


class TestOverTheFake(SandboxContract):
    @pytest.fixture
    def bench(self, fake_bench: Bench) -> Bench:
        return fake_bench

    @pytest.fixture
    def image(self) -> Callable[[str], str]:
        return reference

    @pytest.fixture
    def spare(self) -> str:
        return reference("sleep")


@pytest.fixture(scope="module")
def registry(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRegistry]:
    with plain_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def launcher(registry: PlainRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    directory = tmp_path_factory.mktemp("launcher")
    open_to_all(directory)
    launcher = Launcher(directory, registries=(registry.host,))
    launcher.start()
    yield launcher
    launcher.stop()
    left = [path for name in ("scratch", "inputs") for path in (directory / name).iterdir()]
    assert not left, launcher.log.read_text()
    assert str(directory) not in Path("/proc/mounts").read_text()


@pytest.fixture(scope="module")
def pulled(engine: Engine, registry: PlainRegistry, launcher: Launcher) -> Iterator[Callable[[str], str]]:
    """The reference by digest of a program in SCRIPTS, pulled by the engine."""
    made: dict[str, str] = {}
    sandbox = launcher.connect()

    def reference(name: str) -> str:
        if name not in made:
            entrypoint = ["/nothing"] if name == "refused" else ["/bin/sh", "-c"]
            image = engine.image(entrypoint=entrypoint, command=[SCRIPTS.get(name, SCRIPTS["sleep"])])
            made[name] = f"{registry.host}/{name}@{registry.move(engine, image, name)}"
        sandbox.pull(made[name], token="", timeout=60)
        return made[name]

    yield reference
    sandbox.close()
    for each in made.values():
        with contextlib.suppress(docker.errors.ImageNotFound):
            engine.client.remove_image(each, force=True)


@pytest.mark.service
class TestOverTheEngine(SandboxContract):
    @pytest.fixture
    def bench(self, launcher: Launcher, tmp_path: Path) -> Iterator[Bench]:
        source = tmp_path / "in.laz"
        source.write_bytes(INPUT)
        sandbox = launcher.connect()
        bench = Bench(sandbox, source)
        yield bench
        bench.close()
        sandbox.close()

    @pytest.fixture
    def image(self, pulled: Callable[[str], str]) -> Callable[[str], str]:
        return pulled

    @pytest.fixture
    def spare(self, pulled: Callable[[str], str]) -> str:
        return pulled("spare")
