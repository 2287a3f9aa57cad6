"""The server's own tests with the Python of newer releases, for `make soak`: unit tests, and an instance with
its engine in the release. What is not closed is an error."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import environments
from tests.fixtures.environments import TOP
from tests.fixtures.own_engine import OwnEngine
from tests.fixtures.roots import Root, root
from tests.fixtures.seed import SEED
from tests.fixtures.session import SESSION

pytestmark = [pytest.mark.service, pytest.mark.timeout(4 * 3600)]
WITH_ENGINE = (
    "tests/client", "tests/instance/test_path.py", "tests/instance/test_restart.py",
    "tests/instance/test_s3.py", "tests/instance/test_uploads.py", "tests/launcher", "tests/sandbox",
    "tests/storage",
)  # fmt: skip
# Checks of the source and of this machine, which do not depend on the Python that runs them.
NOT_HERE = ("tests/test_checks.py", "tests/test_docs.py", "tests/engines", "tests/scripts")


class Python:
    """The Python of a release, and the directory for what its tests write."""

    def __init__(self, release: Root, directory: Path) -> None:
        self.release = release
        self._directory = directory
        self._interpreter = environments.inside(release, directory / "venv")

    def tests(self, *words: str | Path) -> None:
        """Run tests. Fails with the end of what they print."""
        settings = {
            "TMPDIR": str(self._directory), "PYTHONWARNINGS": "always::ResourceWarning",
            "COLUMNS": "120", "HOME": str(self._directory), "GATE_SEED": str(SEED),
        }  # fmt: skip
        command = (
            self._interpreter, "-m", "pytest", "-p", "no:cacheprovider", "--timeout", "1800", "--tb", "short",
            *environments.STRICT, *(f"--ignore={TOP / name}" for name in NOT_HERE), *words,
        )  # fmt: skip
        changed = ("env", "-u", "GT_SESSION", "-u", "PYTEST_XDIST_WORKER", "-C", str(TOP))
        status, printed = self.release.run(*changed, *command, settings=settings, limit=4 * 3600)
        assert status == 0, printed[-8000:]


@pytest.fixture(scope="module", params=["trixie-server", "sid-server"])
def python(request: pytest.FixtureRequest) -> Iterator[Python]:
    directory = SESSION / request.param[0]  # short, because sockets have short paths
    directory.mkdir(mode=0o711)
    shared = [each for each in (TOP, TOP.parent / "shared") if each.is_dir()]
    with root(request.param, *shared) as release:
        yield Python(release, directory)


def test_unit_tests(python: Python) -> None:
    python.tests("-m", "unit", "-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder")


def test_an_instance_and_its_engine(python: Python) -> None:
    engine = OwnEngine(inside=python.release.inside)
    try:
        engine.start()
        link = ("ln", "-s", engine.address.removeprefix("unix://"), "/run/docker.sock")
        assert python.release.run(*link) == (0, "")
        python.tests("-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder", *WITH_ENGINE)
    finally:
        engine.remove()
