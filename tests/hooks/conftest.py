"""A receiver, an instance that may reach it, and the fixtures of tests/runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hooks.receiver import Receiver, receiving
from tests.runs.conftest import make_run, release, shared_with

__all__ = ["make_run", "release", "shared_with"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authority")


@pytest.fixture
def receiver(authority: Path) -> Iterator[Receiver]:
    with receiving(authority) as running:
        yield running


@pytest.fixture(autouse=True)
def instance_settings(settings, tmp_path):
    """Allow the receiver's address to hooks, and use a data directory of the test."""
    settings.DATA = tmp_path
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(
        update={"hook_networks": "127.0.0.1/32", "hook_pause": 0.05, "hook_timeout": 2.0}
    )
