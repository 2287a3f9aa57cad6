"""The static checks, as tests, so that one summary line covers everything."""

import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_database_is_the_one_of_the_variant(request: pytest.FixtureRequest, db: None) -> None:
    from django.db import connection

    assert connection.vendor == request.node.callspec.params["database"]


def test_shell_scripts() -> None:
    scripts = [
        path
        for path in (*TOP.glob("scripts/*"), TOP / ".ci" / "run")
        if path.is_file() and path.read_bytes().startswith((b"#!/usr/bin/env bash", b"#!/bin/sh"))
    ]
    assert scripts
    _passes(["shellcheck", *map(str, scripts)])


def _passes(command: list[str]) -> None:
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
