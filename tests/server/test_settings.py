"""Settings are validated at the start, with a sentence for each error."""

import os
import subprocess
import sys

import pytest

from gridapps.config.environment import Environment


def doctor(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gridapps.server.cli", "doctor"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRIDAPPS_PORT", "70000"),
        ("GRIDAPPS_HOST", "a b; include /etc/shadow"),
        ("GRIDAPPS_LISTEN", "localhost"),
        ("GRIDAPPS_DATABASE", "mysql://x"),
        ("GRIDAPPS_NODE", "../x"),
        ("GRIDAPPS_QUOTA", "none"),
        ("GRIDAPPS_STORAGE", "shared/files"),
        ("GRIDAPPS_STORAGE", "s3://key:secret@bucket"),
        ("GRIDAPPS_S3_ENDPOINT", "ftp://files"),
        ("GRIDAPPS_BROKER", "http://broker"),
    ],
)
def test_a_wrong_value_is_named_without_a_stack_trace(name, value):
    result = doctor(**{name: value})
    assert result.returncode == 1
    assert name in result.stderr
    assert "Traceback" not in result.stderr


def test_a_setting_that_does_not_exist_is_refused():
    result = doctor(GRIDAPPS_PROT="5443")
    assert result.returncode == 1
    assert "GRIDAPPS_PROT" in result.stderr


@pytest.mark.parametrize(("host", "origin"), [("grid.example", "grid.example:5443"), ("::1", "[::1]:5443")])
def test_the_origin_is_what_clients_see(monkeypatch, host, origin):
    monkeypatch.setenv("GRIDAPPS_HOST", host)
    monkeypatch.delenv("GRIDAPPS_PORT", raising=False)
    assert Environment().origin == f"https://{origin}"
