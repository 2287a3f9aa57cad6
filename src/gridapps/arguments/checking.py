"""Checks untrusted schemas and arguments in processes with limits, so that they cannot block the application.

Checks that are certainly quick run in the application itself. docs/decisions/0130-checks-in-a-process.md has
the reasons.
"""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gridapps.access.refusals import Refused
from gridapps.arguments import schemas
from gridapps.arguments.checker import SECONDS, read_message, write_message
from gridapps.arguments.schemas import InvalidArguments, InvalidSchema
from gridapps.arguments.shape import MAX_NODES

PROCESSES = 2  # of each application process
PATIENCE = 10.0  # seconds that a request waits for a free process
LONGEST = 20.0  # seconds for a check; processor time has a lower limit
COMMAND = ("-I", "-m", "gridapps.arguments.checker")
_QUICK = 1_000_000  # characters of the schema times characters of the arguments
_QUICK_SCHEMA = 4096  # characters
_REPETITION = re.compile(r"\{\s?(\d{1,6})?,?(\d{1,6})?")

_TOO_LONG = f"Checking takes more than {SECONDS} s of processor time, or too much memory"


class Busy(Refused):
    """No process became free in time."""

    code = "unavailable"

    def __init__(self) -> None:
        super().__init__("Too many schemas and arguments are being checked; try again in a few seconds.")


class _Gone(Exception):
    """The process has ended. `idle`: it exited by itself, before it read the request."""

    def __init__(self, *, idle: bool) -> None:
        super().__init__()
        self.idle = idle


def check_schema(schema: object, *, by: int) -> dict[str, Any]:
    """The same as `schemas.check_schema`, for a user. Raises InvalidSchema, Busy."""
    text = schemas.text(schema)
    if len(text) <= _QUICK_SCHEMA and len(text) * _repetitions(text) <= _QUICK:
        return schemas.check_schema(schema)
    try:
        accepted: dict[str, Any] = _pool.ask(by, "check", schema)
    except _Gone:
        raise InvalidSchema(
            "The argument schema is invalid.",
            [("", f"{_TOO_LONG}. Use smaller patterns and fewer subschemas.")],
        ) from None
    return accepted


def complete(schema: dict[str, Any], arguments: dict[str, Any], *, by: int) -> dict[str, Any]:
    """The same as `schemas.complete`, for a user. Raises InvalidArguments, Busy."""
    schemas.require_size(arguments)
    text = schemas.text(schema)
    steps = (len(text) + (MAX_NODES if "$ref" in text else 0)) * _repetitions(text)
    if len(text) <= _QUICK_SCHEMA and steps * len(schemas.text(arguments)) <= _QUICK:
        return schemas.complete(schema, arguments)
    try:
        value: dict[str, Any] = _pool.ask(by, "complete", schema, arguments)
    except _Gone:
        raise InvalidArguments(
            "The arguments take too long to check.",
            [
                (
                    "",
                    f"{_TOO_LONG}. Pass fewer or shorter values, or ask for a simpler schema.",
                )
            ],
        ) from None
    return value


def _repetitions(text: str) -> int:
    """An upper bound of the factor by which nested repetitions in patterns can multiply work."""
    product = 1
    for first, last in _REPETITION.findall(text):
        product *= max(int(first or 1), int(last or 1), 1)
        if product > _QUICK:
            return product
    return product


class _Process:
    """One process with limits, used by one thread at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer. Raises _Gone if the process was killed or has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(LONGEST, self._process.kill)
        timer.start()
        try:
            write_message(self._process.stdin, request)
            answer = read_message(self._process.stdout)
        except OSError:
            answer = None
        finally:
            timer.cancel()
        if answer is None:
            self.end()
            raise _Gone(idle=self._process.returncode == 0)
        return answer

    def end(self) -> None:
        """Kill the process if it still runs, and reap it."""
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)  # standard output is closed: it is exiting
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()


class _Pool:
    """A few processes with one request each. A user occupies at most one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[_Process] = []
        self._users: set[int] = set()

    def ask(self, by: int, operation: str, *arguments: object) -> Any:
        """The result of an operation. Raises InvalidSchema, InvalidArguments, Busy, _Gone."""
        with self._turn(by):
            try:
                answer = self._ask({"operation": operation, "arguments": arguments})
            except _Gone as error:
                if not error.idle:
                    raise
                answer = self._ask({"operation": operation, "arguments": arguments})
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        if "refused" in answer:
            kind = {"InvalidSchema": InvalidSchema, "InvalidArguments": InvalidArguments}[answer["refused"]]
            raise kind(answer["message"], [(where, text) for where, text in answer["fields"]])
        return answer["value"]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            process = self._idle.pop() if self._idle else None
        process = process or _Process()
        try:
            answer = process.ask(request)
        except _Gone:
            raise
        except BaseException:
            process.end()
            raise
        with self._changed:
            self._idle.append(process)
        return answer

    @contextmanager
    def _turn(self, by: int) -> Iterator[None]:
        end = time.monotonic() + PATIENCE
        with self._changed:
            while by in self._users or len(self._users) >= PROCESSES:
                if not self._changed.wait(end - time.monotonic()):
                    raise Busy
            self._users.add(by)
        try:
            yield
        finally:
            with self._changed:
                self._users.discard(by)
                self._changed.notify_all()


_pool = _Pool()
