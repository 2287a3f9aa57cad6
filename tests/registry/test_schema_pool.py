"""Schemas and arguments are checked in processes with limits, and never hold up the application."""

import contextlib
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gridapps.arguments import checking, schemas
from gridapps.arguments.checking import Busy
from gridapps.arguments.schemas import InvalidArguments, InvalidSchema

# The schemas are held against each value of large arguments: none of these is refused for its cost alone.
PATTERNS = {"type": "object", "properties": {"a": {"pattern": "a[ab]{0,900}[bd]d"}}}
CONTAINS = {
    "type": "object",
    "properties": {"a": {"not": {"anyOf": [{"contains": {"enum": [i, "a"]}} for i in range(90)]}}},
}
LONG_TEXT = {"a": "".join(random.Random(1).choices("ab", k=1_000_000))}
LONG_LIST = {"a": [1000] * 200_000}


class Heartbeat:
    """Measures how long another thread of this process is held up."""

    def __enter__(self) -> "Heartbeat":
        self.longest = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()
        return self

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.01):
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def children() -> set[int]:
    own = os.getpid()
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == own and "arguments.checker" in (stat.parent / "cmdline").read_text():
                found.add(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.parametrize(("schema", "arguments"), [(PATTERNS, LONG_TEXT), (CONTAINS, LONG_LIST)])
def test_costly_arguments_hold_no_other_thread(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    checking.check_schema(schema, by=1)
    used = time.process_time()
    # A fast machine is done before the limit.
    with Heartbeat() as heartbeat, contextlib.suppress(InvalidArguments):
        checking.complete(schema, arguments, by=1)
    assert time.process_time() - used < 2, "the work was done in this process"
    assert heartbeat.longest < 15, "checked in this process it is half a minute"


def test_what_takes_too_long_is_ended_and_told() -> None:
    checking.check_schema(PATTERNS, by=1)
    with pytest.raises(InvalidArguments) as raised:
        checking.complete(PATTERNS, LONG_TEXT, by=1)
    ((where, sentence),) = raised.value.fields
    assert where == ""
    assert "2 s of processor time" in sentence
    assert checking.complete(PATTERNS, {"b": "x" * 5000}, by=1) == {"b": "x" * 5000}


def test_what_takes_too_much_memory_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import gridapps.arguments.checker as p; p.MEMORY = 60 * 1024**2; p.main()"
    monkeypatch.setattr(checking, "COMMAND", ("-c", program))
    monkeypatch.setattr(checking, "_pool", checking._Pool())
    schema = {"type": "object", "title": "x" * 5000}
    assert checking.complete(schema, {"a": [{}]}, by=1) == {"a": [{}]}
    with pytest.raises(InvalidArguments, match="too long"):
        checking.complete(schema, {"a": [{"": 0}] * 110_000}, by=1)


def test_a_process_that_was_killed_is_replaced() -> None:
    arguments = {"a": "x" * 20_000}
    schema = {"type": "object", "title": "x" * 5000}
    assert checking.complete(schema, arguments, by=1) == arguments
    for child in children():
        os.kill(child, 9)
    with pytest.raises(InvalidArguments):
        checking.complete(schema, arguments, by=1)
    assert checking.complete(schema, arguments, by=1) == arguments


def test_a_large_application_does_not_cost_a_process_for_each_check() -> None:
    large = bytearray(300 * 1024**2)
    large[::4096] = b"x" * len(large[::4096])  # resident
    schema = {"type": "object", "title": "x" * 5000}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checking, "_pool", checking._Pool())
        before = children()
        checking.complete(schema, {"a": 1}, by=1)
        (process,) = children() - before
        checking.complete(schema, {"a": 1}, by=1)
        assert children() - before == {process}


def test_an_idle_process_ends_and_the_next_request_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import gridapps.arguments.checker as p; p.IDLE = 0.2; p.main()"
    monkeypatch.setattr(checking, "COMMAND", ("-c", program))
    monkeypatch.setattr(checking, "_pool", checking._Pool())
    seen = set()
    for number in (1, 2):
        assert checking.complete({"type": "object", "title": "x" * 5000}, {"a": 1}, by=1) == {"a": 1}
        child = checking._pool._idle[0]._process.pid
        seen.add(child)
        assert len(seen) == number
        end = time.monotonic() + 60
        while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < end
            time.sleep(0.05)


def test_one_user_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "PATIENCE", 0.3)
    monkeypatch.setattr(checking, "_pool", checking._Pool())
    schema = {"type": "object", "title": "x" * 5000}
    with checking._pool._turn(1):
        with pytest.raises(Busy):
            checking.complete(schema, {}, by=1)
        assert checking.complete(schema, {}, by=2) == {}
        with checking._pool._turn(2), pytest.raises(Busy):
            checking.complete(schema, {}, by=3)
    assert checking.complete(schema, {}, by=1) == {}


def test_values_and_faults_are_those_of_the_check_itself() -> None:
    schema = {
        "type": "object",
        "title": "x" * 5000,
        "properties": {"a": {"type": "integer", "default": 10**30}, "é": {"default": 1.5e300}},
    }
    checking.check_schema(schema, by=1)
    assert checking.complete(schema, {}, by=1) == schemas.complete(schema, {})
    with pytest.raises(InvalidArguments) as inside:
        schemas.complete(schema, {"a": "x"})
    with pytest.raises(InvalidArguments) as outside:
        checking.complete(schema, {"a": "x"}, by=1)
    assert (str(outside.value), outside.value.fields) == (str(inside.value), inside.value.fields)
    with pytest.raises(InvalidSchema) as refused:
        checking.check_schema({**schema, "required": 3}, by=1)
    assert [where for where, _ in refused.value.fields] == ["/required"]


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"type": "object", "allOf": [{"contains": {"const": i}} for i in range(200)]}, "contains"),
        ({"type": "object", "additionalProperties": {"enum": list(range(5000))}}, "enum"),
        ({"type": "object", "items": {"required": [f"k{i}" for i in range(5000)]}}, "required"),
        (
            {"type": "object", "patternProperties": {f"^(?:[ab]?){{800}}{i}": {} for i in range(20)}},
            "patterns",
        ),
        ({"type": "object", "$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{}] * 220}}}, "anyOf"),
    ],
)
def test_a_schema_that_costs_too_much_is_refused_with_what_to_change(schema: object, word: str) -> None:
    with pytest.raises(InvalidSchema) as raised:
        checking.check_schema(schema, by=1)
    assert word in raised.value.fields[0][1]


def test_a_large_ordinary_schema_costs_little() -> None:
    step = {
        "type": "object",
        "required": ["name"],
        "properties": {f"p{i}": {"type": "number", "minimum": 0, "maximum": i} for i in range(40)}
        | {
            "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            "kind": {"enum": list("abcdefgh")},
        },
        "additionalProperties": False,
    }
    several = {f"s{i}": {"type": "array", "items": {"$ref": "#/$defs/s"}} for i in range(9)}
    checking.check_schema({"type": "object", "properties": several, "$defs": {"s": step}}, by=1)
