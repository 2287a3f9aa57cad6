"""The fixtures of tests/runs."""

from tests.runs.conftest import make_run, release, shared_with

__all__ = ["make_run", "release", "shared_with"]
