"""The client's own tests with the Python of newer releases. A socket that is not closed is an error."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.roots import TESTED, Root, root

TOP = Path(__file__).parents[2]
# The client needs packages in pure Python only, so those of this environment do. Hypothesis has binaries.
PACKAGES = Path(str(importlib.util.find_spec("httpx").origin)).parents[1]  # type: ignore[union-attr]
TESTS = [file for file in (TOP / "client/tests").glob("test_*.py") if "hypothesis" not in file.read_text()]
OPTIONS = (
    "-p", "no:cacheprovider", "--confcutdir=client/tests", "-c", "/dev/null", "--rootdir=.", "-q",
    "-W", "error::ResourceWarning", "-W", "error::pytest.PytestUnraisableExceptionWarning",
)  # fmt: skip


@pytest.fixture(params=TESTED)
def release(request: pytest.FixtureRequest) -> Iterator[Root]:
    """A release that sees this tree and the packages."""
    with root(request.param, TOP, PACKAGES) as made:
        yield made


def test_client_runs_on_the_oldest_python(release: Root) -> None:
    settings = {
        "PYTHONPATH": f"{TOP}:{TOP}/client/src:{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDEVMODE": "1",
    }  # fmt: skip
    script = f'cd {TOP} && exec python3 -m pytest "$@"'
    command: tuple[str | Path, ...] = ("sh", "-c", script, "sh", *OPTIONS, *TESTS)
    status, printed = release.run(*command, settings=settings, limit=300)
    assert status == 0, printed[-4000:]
