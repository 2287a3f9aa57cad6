"""Errors of the disk, and of programs that this one starts, as sentences."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gridapps_client.errors import GridAppsError

_LONGEST = 60.0  # seconds of a question to a program


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate what writing to `path` raises."""
    with _translated(path, "written"):
        yield


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Translate what reading from `path` raises."""
    with _translated(path, "read"):
        yield


def asked(command: Sequence[str], *, seconds: float = _LONGEST) -> subprocess.CompletedProcess[str]:
    """Run a program that answers soon, with its output as text."""
    with started(command[0]):
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )


@contextmanager
def started(program: str) -> Iterator[None]:
    """Translate what starting `program` raises."""
    try:
        yield
    except OSError as error:
        raise GridAppsError(f"{program} cannot be started: {error.strerror}.", code="program") from error
    except subprocess.TimeoutExpired as error:
        raise GridAppsError(
            f"{program} did not answer within {error.timeout:.0f} s; is its engine running?", code="program"
        ) from error


@contextmanager
def _translated(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise GridAppsError(f"{path} cannot be {what}: {_why(error)}.", code="disk") from error


def _why(error: Any) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeEncodeError):
        return "this system cannot write such a name or text"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return str(error)
