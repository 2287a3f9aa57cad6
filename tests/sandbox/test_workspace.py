"""The workspace of an attempt, below the engine: what it needs of the kernel."""

import os
import threading
from pathlib import Path

import pytest

from gridapps.sandbox import workspace
from tests.fixtures.engine import Engine

pytestmark = pytest.mark.engine


def test_a_file_system_that_is_busy_for_a_moment_is_unmounted_all_the_same(engine: Engine, tmp_path: Path):
    """As while another thread starts a process, which holds our descriptors for a moment."""
    space = workspace.probe(tmp_path, quota="loop")
    held = os.open(space.log, os.O_RDONLY)
    release = threading.Timer(0.3, os.close, [held])
    release.start()
    space.remove()
    assert not release.is_alive()
    assert not list(tmp_path.iterdir())
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
