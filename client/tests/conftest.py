"""Fixtures of the client's tests. None touches the configuration of the user who runs them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gridapps_client import Client

from client.tests.loopback import Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, token="secret", timeout=5) as made:
        yield made


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration directory for the test."""
    for name in ("GRIDAPPS_URL", "GRIDAPPS_TOKEN", "GRIDAPPS_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("gridapps_client.transport._PAUSES", (0.01, 0.01, 0.01))
    directory = tmp_path / "config" / "gridapps"
    monkeypatch.setenv("GRIDAPPS_CONFIG", str(directory))
    return directory
