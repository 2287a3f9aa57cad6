"""The checks that read the tree instead of running it, so that one closing line covers everything."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.fixtures.postgresql import Cluster

TOP = Path(__file__).parents[1]
PROGRAMS = Path(sys.executable).parent

SETTINGS = "--settings=gridapps.config.settings"

CHECKS = {
    "format": ["ruff", "format", "--check", "."],
    "ruff": ["ruff", "check", "."],
    "types": ["mypy"],
    "types of the tests": ["mypy", "-p", "tests", "-p", "client.tests"],
    "imports": ["lint-imports"],
    "unused code": ["vulture"],
    "dependencies": ["deptry", "src"],
    "dependencies of the client": ["deptry", "--config", "client/pyproject.toml", "client/src"],
    "migrations": ["python", "-m", "django", "makemigrations", "--check", "--dry-run", SETTINGS],
    "system checks": ["python", "-m", "django", "check", "--fail-level", "WARNING", SETTINGS],
}


@pytest.mark.parametrize("command", CHECKS.values(), ids=CHECKS.keys())
def test_check(command: list[str]) -> None:
    _passes([str(PROGRAMS / command[0]), *command[1:]])


def test_the_database_is_the_one_that_was_asked_for(db: None) -> None:
    from django.db import connection

    assert connection.vendor == os.environ.get("TEST_DATABASE", "sqlite")


def test_shell_scripts() -> None:
    scripts = [
        path
        for path in (*TOP.glob("scripts/*"), TOP / ".ci" / "run")
        if path.is_file() and path.read_bytes().startswith((b"#!/usr/bin/env bash", b"#!/bin/sh"))
    ]
    assert scripts
    _passes(["shellcheck", *map(str, scripts)])


@pytest.mark.timeout(1200)
def test_what_uses_the_database_passes_on_postgresql(postgresql: Cluster) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not engine and not instance"]
    _passes(command, {"TEST_DATABASE": "postgresql"})


def _passes(command: list[str], variables: Mapping[str, str] = MappingProxyType({})) -> None:
    # A pytest below this one sets Django up itself.
    environment = {**os.environ, **variables}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
