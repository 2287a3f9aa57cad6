"""The commands of README.md run as they stand, in their order."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.engine import Engine
from tests.fixtures.instance import MakeInstance

TOP = Path(__file__).parents[2]
ADDRESS = "localhost:5443"  # the only text that is replaced: another instance may listen there


def _path() -> tuple[str, list[str]]:
    """The command that starts the instance, and the blocks of commands that follow it."""
    section = (
        (TOP / "README.md").read_text().partition("\n## From an empty instance")[2].partition("\n## ")[0]
    )
    start, *blocks = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    return start, blocks


@pytest.fixture
def without_readme_image(engine: Engine) -> Iterator[None]:
    yield
    subprocess.run(["docker", "image", "rm", "-f", "header:1"], capture_output=True, check=False)


@pytest.mark.usefixtures("without_readme_image")
def test_the_commands_of_the_readme_run_as_they_stand(make_instance: MakeInstance):
    start, blocks = _path()
    assert start == "make up\n"
    # `make up` runs this after it has prepared the machine; the instance of the tests does the same.
    assert (TOP / "scripts" / "up").read_text().endswith(".venv/bin/gridapps-server up\n")
    script = "\n".join(blocks)
    assert ADDRESS in script
    instance = make_instance()
    instance.start()
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        for linked in (".venv", "apps", "demo"):
            (here / linked).symlink_to(TOP / linked)
        (here / "instance").symlink_to(instance.data)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace(ADDRESS, instance.authority)],
            cwd=here, env={**instance.environment, "GRIDAPPS_CONFIG": str(here / "client")},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{instance.tail()}"
        headers = list((here / "results").rglob("header.json"))
        assert len(headers) == 4, done.stdout
        assert all('"points"' in header.read_text() for header in headers)
    assert '"block.set"' in done.stdout, "the audit was not printed"
