"""Recording a container's log."""

import time
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings

from gridapps.runs.store import AttemptFiles
from gridapps.sandbox.log import open_log
from gridapps.worker.log_recording import LogRecorder

STAMP = "2026-01-02T03:04:05.000000Z"


def test_a_full_log_of_short_lines_is_copied_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is proportional to the size, so a program cannot block its worker by a large log."""
    monkeypatch.setattr(settings, "DATA", tmp_path)
    log = tmp_path / "log"
    log.write_text(f"{STAMP} 12345678\n" * 280_000)
    files = AttemptFiles(uuid4(), 0, 1)
    files.log.parent.mkdir(parents=True)
    began = time.monotonic()
    LogRecorder(log=lambda: open_log(log), files=files, limit=16 * 1024**2).record()
    assert files.log.stat().st_size == log.stat().st_size
    assert time.monotonic() - began < 60
