"""scripts/engine uses the engine that answers, starts one where none does, and stops only its own."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.engine import Engine

TOP = Path(__file__).parents[2]

# In a mount namespace of its own, with an empty /run and an empty /var/lib/docker, no engine answers.
ALONE = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/docker
answers() { docker version > /dev/null 2>&1 && echo yes || echo no; }
echo "at first: $(answers)"
scripts/engine start
echo "started: $(answers)"
bash -c 'scripts/engine start; scripts/engine stop'
echo "after another's stop: $(answers)"
scripts/engine stop
echo "after our stop: $(answers)"
"""


@pytest.mark.service
def test_it_starts_one_and_stops_it_when_its_last_user_is_done(engine: Engine, tmp_path: Path):
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", ALONE],
        cwd=TOP, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "at first: no",
        "started: yes",
        "after another's stop: yes",
        "after our stop: no",
    ], done.stderr


@pytest.mark.service
def test_it_leaves_an_engine_that_it_did_not_start(engine: Engine, tmp_path: Path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for word in ("start", "stop"):
        subprocess.run([TOP / "scripts" / "engine", word], check=True, env=environment)
    assert engine.client.ping()
    assert not (tmp_path / "gridapps" / "engine" / "dockerd.pid").exists()


def test_another_word_is_refused():
    done = subprocess.run(
        [TOP / "scripts" / "engine", "restart"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "start|stop" in done.stderr
