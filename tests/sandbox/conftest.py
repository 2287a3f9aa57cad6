"""A sandbox over the real engine, and how tests start programs in it."""

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gridapps.sandbox.docker import DockerSandbox
from gridapps.sandbox.log import Line
from gridapps.sandbox.log_following import LogFollower
from gridapps.sandbox.protocol import Ended, Launch, Limits, Sandbox
from tests.fixtures.engine import Engine

# They download base images and packages: only for `make soak`.
collect_ignore = [] if os.environ.get("EXAMPLES") else ["test_examples.py"]
MIB = 1024**2
SOCKET = "unix:///var/run/docker.sock"
INPUT = b"LASF and what follows"
LIMITS = Limits(cpus=1, memory=96 * MIB, disk=24 * MIB, inodes=2000, processes=40, log=MIB)


@dataclass
class Result:
    """The result of one program."""

    ended: Ended
    log: list[str]
    stdout: str
    outputs: Path


@dataclass
class Bench:
    """A sandbox that remembers what was started in it."""

    sandbox: Sandbox
    input: Path
    names: list[str] = field(default_factory=list)
    log_limits: dict[str, int] = field(default_factory=dict)

    def launch(self, image: str, **changes: Any) -> Launch:
        """A launch of this image under a new name."""
        values: dict[str, Any] = {
            "name": f"try-{uuid.uuid4().hex[:12]}",
            "image": image,
            "arguments": b'{"cell": 2}',
            "input": self.input,
            "input_name": "pointcloud.laz",
            "run": "run-1",
            "task": "task-1",
            "limits": LIMITS,
            "deadline": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
            "labels": {"task": "1"},
            **changes,
        }
        launch = Launch(**values)
        self.names.append(launch.name)
        self.log_limits[launch.name] = launch.limits.log
        return launch

    def start(self, image: str, **changes: Any) -> str:
        launch = self.launch(image, **changes)
        self.sandbox.start(launch)
        return launch.name

    def log(self, name: str) -> list[str]:
        """The lines of standard error so far."""
        follower = LogFollower(lambda: self.sandbox.log(name), limit=self.log_limits.get(name, LIMITS.log))
        return [item.text for item in follower.read() if isinstance(item, Line)]

    def raw_log(self, name: str) -> bytes:
        """Standard error as it is in the file; empty without one."""
        log = self.sandbox.log(name)
        if log is None:
            return b""
        with os.fdopen(log, "rb") as file:
            return file.read()

    def outputs(self, name: str) -> Path:
        """The directory that was /grid, by its path on this machine."""
        descriptor = self.sandbox.outputs(name)
        try:
            return Path(f"/proc/self/fd/{descriptor}").readlink()
        finally:
            os.close(descriptor)

    def finish(self, name: str) -> Result:
        ended = self.sandbox.wait(name, timeout=60)
        assert ended is not None, "it did not end in a minute"
        outputs = self.outputs(name)
        return Result(ended, self.log(name), (outputs / "stdout.txt").read_text(errors="replace"), outputs)

    def run(self, image: str, **changes: Any) -> Result:
        return self.finish(self.start(image, **changes))

    def close(self) -> None:
        for name in self.names:
            self.sandbox.stop(name, grace=0)
            self.sandbox.remove(name)


@pytest.fixture(scope="session")
def instance() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def docker_sandbox(
    engine: Engine, instance: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerSandbox]:
    """One for the session. At the end nothing of the instance may remain."""
    scratch = tmp_path_factory.mktemp("scratch")
    sandbox = DockerSandbox(engine=SOCKET, instance=instance, scratch=scratch, quota="loop", runtime="")
    yield sandbox
    sandbox.close()
    assert not list(scratch.iterdir())
    assert not engine.client.containers(all=True, filters={"label": [f"gridapps.instance={instance}"]})
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if str(scratch) in line]
    # Other tests remove groups meanwhile, which Path.glob takes for an error.
    assert not [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"/gridapps-{instance}")]


@pytest.fixture
def bench(docker_sandbox: DockerSandbox, tmp_path: Path) -> Iterator[Bench]:
    """The real sandbox."""
    source = tmp_path / "in.laz"
    source.write_bytes(INPUT)
    bench = Bench(docker_sandbox, source)
    yield bench
    bench.close()


@pytest.fixture(scope="session")
def script(engine: Engine) -> Callable[[str], str]:
    """The image of a shell script, created once per script."""
    made: dict[str, str] = {}

    def image(text: str) -> str:
        if text not in made:
            made[text] = engine.image(command=[text])
        return made[text]

    return image
