"""The client's own tests with other Pythons, without any engine. A socket that is not closed is an error."""

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import environments, interpreters
from tests.fixtures.environments import STRICT, TOP
from tests.fixtures.roots import TESTED, Root, root

# The client needs packages in pure Python only, so those of this environment do. Hypothesis has binaries.
PACKAGES = Path(str(importlib.util.find_spec("httpx").origin)).parents[1]  # type: ignore[union-attr]
TESTS = [file for file in (TOP / "client/tests").glob("test_*.py") if "hypothesis" not in file.read_text()]
OPTIONS = (
    "-p", "no:cacheprovider", "--confcutdir=client/tests", "-c", "/dev/null", "--rootdir=.", "-q",
    *STRICT,
)  # fmt: skip
SETTINGS = {
    "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDEVMODE": "1",
}  # fmt: skip


@pytest.fixture(params=TESTED)
def release(request: pytest.FixtureRequest) -> Iterator[Root]:
    """A release that sees this tree and the packages."""
    with root(request.param, TOP, PACKAGES) as made:
        yield made


def test_client_runs_on_newer_pythons(release: Root) -> None:
    settings = {**SETTINGS, "PYTHONPATH": f"{TOP}:{TOP}/client/src:{PACKAGES}"}
    script = f'cd {TOP} && exec python3 -m pytest "$@"'
    command: tuple[str | Path, ...] = ("sh", "-c", script, "sh", *OPTIONS, *TESTS)
    status, printed = release.run(*command, settings=settings, limit=300)
    assert status == 0, printed[-4000:]


@pytest.mark.skipif(os.environ.get("ENGINES") != "all", reason="downloads packages: for make soak")
@pytest.mark.parametrize("version", ["3.10", "3.12"])
def test_client_wheel_runs_on_other_pythons(version: str, tmp_path: Path) -> None:
    """Installed from its wheel, with the newest packages that it allows."""
    interpreter = interpreters.installed(version)
    environments.uv("build", "--quiet", "--wheel", "--out-dir", tmp_path, TOP / "client")
    environments.uv("venv", "--quiet", "--python", interpreter, tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    wheel = next(tmp_path.glob("*.whl"))
    environments.uv("pip", "install", "--quiet", "--python", python, wheel, "pytest", "hypothesis")
    path = {**os.environ, **SETTINGS, "PYTHONPATH": str(TOP), "DOCKER_HOST": "unix:///nowhere"}
    done = subprocess.run(
        [python, "-m", "pytest", *OPTIONS, "client/tests"],
        cwd=TOP, env=path, capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
