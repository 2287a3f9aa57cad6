"""The arguments of a run, checked against schema.json. A run by hand has no other check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SCHEMA = Path(__file__).with_name("schema.json")


class BadArguments(Exception):
    """The message is a sentence that names the argument."""


def read_arguments(text: bytes) -> dict:
    """The argument object with defaults filled in. Empty input counts as an empty object."""
    try:
        given = json.loads(text.decode()) if text.strip() else {}
    except ValueError as error:
        raise BadArguments(f"standard input is not JSON ({error}).") from None
    if not isinstance(given, dict):
        raise BadArguments("standard input must be a JSON object.")
    properties = json.loads(_SCHEMA.read_text())["properties"]
    unknown = sorted(set(given) - set(properties))
    if unknown:
        raise BadArguments(f"{unknown[0]} is not known; known are {', '.join(properties)}.")
    return {name: _checked(name, given.get(name, rule["default"]), rule) for name, rule in properties.items()}


def _checked(name: str, value: Any, rule: dict) -> Any:
    """The value, if it satisfies the few JSON Schema keywords that schema.json uses."""
    choices = rule.get("enum")
    if choices is not None and value not in choices:
        raise BadArguments(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    if rule.get("type") == "boolean" and not isinstance(value, bool):
        raise BadArguments(f"{name} must be true or false, not {value!r}.")
    if rule.get("type") == "number":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadArguments(f"{name} must be a number, not {value!r}.")
        if not rule["minimum"] <= value <= rule["maximum"]:
            span = f"between {rule['minimum']} and {rule['maximum']}"
            raise BadArguments(f"{name} must be {span}, not {value!r}.")
    return value
