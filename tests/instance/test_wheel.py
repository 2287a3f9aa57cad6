"""The distributions as wheels, installed without the source tree."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.fixtures import environments
from tests.fixtures.instance import MakeInstance

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def installed() -> Path:
    """The programs of an environment with the wheels and the packages that they ask for."""
    directory = Path(tempfile.mkdtemp(prefix="wheel-"))
    directory.chmod(0o711)
    wheels = environments.wheels(directory / "dist")
    assert len(wheels) == 2
    environments.uv("venv", "--quiet", "--python", sys.executable, directory / "venv")
    constraints = ("--constraints", "requirements.lock")
    python = ("--python", directory / "venv" / "bin" / "python")
    environments.uv("pip", "install", "--quiet", *python, *constraints, *wheels)
    return directory / "venv" / "bin"


def test_an_instance_comes_up_and_runs_a_container(installed: Path, make_instance: MakeInstance) -> None:
    instance = make_instance()
    instance.server = installed / "gridapps-server"
    instance.start()

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd="/", env=instance.environment, capture_output=True, text=True, check=False, timeout=300
        )

    where = (
        "import gridapps.sandbox.profile as p, os; print(p.INIT_BINARY, os.access(p.INIT_BINARY, os.X_OK))"
    )
    found = run(installed / "python", "-I", "-c", where).stdout
    assert found.startswith(f"{installed.parent}/lib/")
    assert found.endswith("gridapps-init True\n")
    doctor = run(instance.server, "doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert run(installed / "gridapps", "--help").returncode == 0
