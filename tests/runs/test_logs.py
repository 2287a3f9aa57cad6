"""A container's log on its way to the store."""

import time
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings

from gridapps.runs.logs import LogRecorder
from gridapps.runs.store import Place
from gridapps.sandbox.log import open_log

STAMP = "2026-01-02T03:04:05.000000Z"


def test_a_full_log_of_short_lines_is_copied_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is in proportion to its size: a program that floods its log holds its worker for no longer."""
    monkeypatch.setattr(settings, "DATA", tmp_path)
    log = tmp_path / "log"
    log.write_text(f"{STAMP} 12345678\n" * 280_000)
    place = Place(uuid4(), 0, 1)
    place.log.parent.mkdir(parents=True)
    began = time.monotonic()
    LogRecorder(log=lambda: open_log(log), place=place, limit=16 * 1024**2).record()
    assert place.log.stat().st_size == log.stat().st_size
    assert time.monotonic() - began < 60
