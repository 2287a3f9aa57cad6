"""Schemathesis over the OpenAPI document, every check on, as three users of the cast."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.server import Server, serving

pytestmark = pytest.mark.service
TOP = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("schemathesis")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Server, dict[str, str], str]]:
    with serving() as server:
        facts = json.loads(server.python("from tests.api import seed; seed.main()"))
        yield server, facts["tokens"], facts["ended"]


@pytest.mark.parametrize("who", ["developer", "outsider", "administrator"])
def test_every_answer_is_declared(
    served: tuple[Server, dict[str, str], str], who: str, tmp_path: Path
) -> None:
    server, tokens, run = served
    configuration = tmp_path / "schemathesis.toml"
    text = (Path(__file__).with_name("schemathesis.toml")).read_text()
    # The run is the developer's own, and another user's to the others.
    configuration.write_text(f'{text}\n[parameters]\n"path.run_id" = "{run}"\n"path.path" = "0/dtm.tif"\n')
    done = subprocess.run(
        [
            str(PROGRAM), "--config-file", str(configuration), "run", f"{server.url}/api/v3/openapi.json",
            "-H", f"Authorization: Bearer {tokens[who]}",
            "-H", "Host: localhost", "-H", "X-Forwarded-Proto: https",
            "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "5",
            "--max-time", "45", "--no-color",
        ],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(TOP)}, capture_output=True, text=True, check=False,
        timeout=200,
    )  # fmt: skip
    report = "\n".join(line[:500] for line in done.stdout.splitlines())
    assert done.returncode == 0, f"{report}\n{done.stderr[-2000:]}"
    assert " 0 passed" not in report
    assert re.search(r"Selected: (\d+)/\1\s+Tested: \1\b", report), report
