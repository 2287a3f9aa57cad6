"""JSON in both directions: request bodies, with the place of what JSON cannot hold, and strict parsing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from gridapps_client.errors import FieldError, GridAppsError

_SHOWN = 80  # characters of a wrong value


class OutOfRange(ValueError):
    """A number is too large for a float."""


def encoded(body: object) -> bytes:
    """`body` as JSON in UTF-8. Raises GridAppsError with the places of the values that JSON cannot hold."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError:
        raise GridAppsError("The request is nested too deeply, or contains itself.", code="usage") from None
    except (TypeError, ValueError) as error:
        try:
            faults = tuple(FieldError(pointer, fault) for pointer, fault in _faults(body, ""))
        except RecursionError:
            faults = ()
        message = "The request contains values that JSON cannot hold." if faults else f"No JSON: {error}."
        raise GridAppsError(message, code="usage", fields=faults) from None


def parsed(text: str | bytes | bytearray, *, distinct: bool = False) -> Any:
    """The value of a JSON text. `distinct`: refuse a name that occurs twice in an object.

    Raises ValueError, also for NaN, numbers beyond the range of floats, and too deep nesting.
    """
    try:
        return json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_distinct if distinct else None,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _faults(value: object, pointer: str) -> Iterator[tuple[str, str]]:
    """JSON pointers of the values that JSON cannot hold, and what is wrong with each."""
    if isinstance(value, dict):
        for key, each in value.items():
            name = str(key).replace("~", "~0").replace("/", "~1")
            if not (key is None or isinstance(key, (str, int, float))):
                yield f"{pointer}/{name[:_SHOWN]}", f"a {type(key).__name__} cannot be a name"
            yield from _faults(each, f"{pointer}/{name}")
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _faults(each, f"{pointer}/{index}")
    elif fault := _fault_of_scalar(value):
        yield pointer, fault


def _fault_of_scalar(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is not a JSON number"
    if isinstance(value, str):
        is_text = not any("\ud800" <= character <= "\udfff" for character in value)
        return "" if is_text else f"{value[:_SHOWN]!r} contains half a character (a lone surrogate)"
    is_json = value is None or isinstance(value, (bool, int))
    return "" if is_json else f"a {type(value).__name__} is not a JSON value"


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise OutOfRange(f"{text[:_SHOWN]} is beyond the range of numbers (1.8e308)")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return result
