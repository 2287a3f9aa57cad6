"""podman as a node's engine: it is refused with a sentence."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridapps.config.environment import Environment
from gridapps.server.doctor import examine
from tests.fixtures.roots import TESTED, Root


@pytest.fixture(params=TESTED)
def podman(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of podman's API."""
    release: Root = request.getfixturevalue(request.param)
    home = Path(tempfile.mkdtemp(prefix="podman-"))
    command = [
        "podman",
        f"--root={home}/root",
        f"--runroot={home}/run",
        "--storage-driver=vfs",
        "system",
        "service",
    ]
    address = f"unix://{home}/podman.sock"
    with (home / "log").open("wb") as log:
        service = subprocess.Popen([*release.inside, *command, "--time=0", address], stdout=log, stderr=log)
    try:
        for _ in range(600):
            if (home / "podman.sock").exists():
                break
            assert service.poll() is None, (home / "log").read_text()
            time.sleep(0.1)
        yield address
    finally:
        service.terminate()
        service.wait(60)


def test_podman_is_refused(podman: str, tmp_path: Path) -> None:
    settings = Environment(data=tmp_path, engine=podman)
    found = {finding.check: finding for finding in examine(settings, works=True)}
    fault = found["container engine"].fault
    assert fault.startswith("Podman ")
    assert "install Docker" in fault
