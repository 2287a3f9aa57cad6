"""The synthetic city, the images of the example Apps, and a way to run them."""

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo import city
from tests.fixtures.engine import Engine

APPS = Path(__file__).parents[2] / "apps"
PROFILE = [
    "--network=none", "--read-only", "--user=65532:65532", "--cap-drop=ALL", "--pids-limit=256", "--cpus=1",
    "--security-opt=no-new-privileges", "--tmpfs=/tmp:rw,nosuid,nodev,size=512m,mode=1777",
]  # fmt: skip


@pytest.fixture(scope="session")
def city_tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The four tiles of the city of seed 1, readable by the programs in containers."""
    directory = tmp_path_factory.mktemp("city")
    # pytest's directories are private; for a bind mount of a file only the file's mode counts.
    tiles = city.write(directory, seed=1)
    for tile in tiles:
        tile.chmod(0o644)
    return tiles


@dataclass(frozen=True)
class AppEnded:
    """The result of one run of an App's image."""

    exit_code: int
    log: str
    stdout: str
    outputs: Path

    @property
    def progress(self) -> list[float]:
        """The reported progress, in order."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line["progress"] for line in lines]


RunApp = Callable[..., AppEnded]


@pytest.fixture(scope="session")
def run_app(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> RunApp:
    """Run an image on a file as the container contract says, without the platform."""

    def run(image: str, source: Path, arguments: object, *, memory: str = "2g") -> AppEnded:
        outputs = tmp_path_factory.mktemp("outputs")
        outputs.chmod(0o777)
        mounts = [f"-v={source}:/input/pointcloud.laz:ro", f"-v={outputs}:/grid"]
        variables = {"GRID_CONTRACT": "1", "GRID_INPUT": "/input/pointcloud.laz", "GRID_OUTPUT": "/grid"}
        variables |= {"HOME": "/tmp", "TMPDIR": "/tmp"}
        done = subprocess.run(
            ["docker", "run", "--rm", "-i", *PROFILE, f"--memory={memory}", f"--memory-swap={memory}",
             *mounts, *(f"-e={name}={value}" for name, value in variables.items()), image],
            input=json.dumps(arguments), capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        return AppEnded(done.returncode, done.stderr, done.stdout, outputs)

    return run


@pytest.fixture(scope="session")
def header_image(engine: Engine) -> Iterator[str]:
    """The image of apps/header, built by the command of its README."""
    name = f"gridapps-example/{uuid.uuid4().hex[:12]}:1"
    context = ["tar", "-c", "--mode=a+rX", "-C", str(APPS / "header"), ".", "-C", "/bin", "busybox"]
    _build(name, "-", context=subprocess.run(context, capture_output=True, check=True).stdout)
    yield name
    _remove(name)


@pytest.fixture(scope="session")
def buildings_image(engine: Engine) -> Iterator[str]:
    """The image of apps/buildings, on its base image, which takes a minute to make on a fresh machine."""
    subprocess.run([APPS / "base" / "build"], check=True, capture_output=True, timeout=280)
    name = f"gridapps-example/{uuid.uuid4().hex[:12]}:1"
    _build(name, str(APPS / "buildings"))
    yield name
    _remove(name)


def _build(name: str, where: str, *, context: bytes | None = None) -> None:
    command = ["docker", "build", "-q", "--network=none", "-t", name, where]
    done = subprocess.run(command, input=context, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def _remove(name: str) -> None:
    subprocess.run(["docker", "image", "rm", "-f", name], capture_output=True, check=False)
