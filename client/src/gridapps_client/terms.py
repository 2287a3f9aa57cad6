"""Convert options into values of the API: sizes, times, and arguments by an App's schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gridapps_client.bodies import OutOfRange, parsed
from gridapps_client.errors import GridAppsError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B?)", re.IGNORECASE)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LARGEST = 2**63 - 1  # what databases hold
_TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "integer": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def number_of_bytes(text: str) -> int:
    """Bytes from `512M`, `2GiB` or `1048576`. K, M, G and T are powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise GridAppsError(f"{text!r} is not a size; write for example 512M or 2GiB.", code="usage")
    return _whole(text, float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def number_of_seconds(text: str) -> int:
    """Seconds from `90`, `10m`, `2h` or `1d`."""
    found = _TIME.fullmatch(text.strip().lower())
    if not found:
        raise GridAppsError(f"{text!r} is not a time; write for example 90s, 10m or 2h.", code="usage")
    return _whole(text, float(found[1]) * _SECONDS[found[2]])


def json_object(text: str, *, source: str) -> dict[str, Any]:
    """The JSON object in `text`. `source` names the text in error messages."""
    try:
        value = parsed(text, distinct=True)
    except ValueError as error:
        raise GridAppsError(f"{source} is not JSON: {error}.", code="usage") from error
    if not isinstance(value, dict):
        raise GridAppsError(f"{source} must be a JSON object.", code="usage")
    return value


def arguments(given: Iterable[str], *, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments from `name=value` words. `schema` says which are strings; other values are read as JSON.

    The instance validates the arguments; this only determines their types.
    """
    result: dict[str, Any] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise GridAppsError(f"{word!r} is not an argument; write name=value.", code="usage")
        if name in result:
            raise GridAppsError(f"The argument {name!r} is given twice.", code="usage")
        result[name] = _typed(name, value, _kinds(schema, name))
    return result


def _typed(name: str, text: str, kinds: set[str]) -> Any:
    try:
        value = parsed(text)
    except OutOfRange as error:
        if "string" in kinds:
            return text
        raise GridAppsError(f"The argument {name!r}: {error}.", code="usage") from None
    except ValueError:
        if not kinds or "string" in kinds:
            return text
        raise GridAppsError(
            f"The argument {name!r} must be {_said(kinds)}, which {text!r} is not.", code="usage"
        ) from None
    if "string" in kinds and not any(_is(value, kind) for kind in kinds - {"string"}):
        # 3 for a string becomes "3"; quotes that were typed as JSON are removed.
        return value if isinstance(value, str) else text
    if kinds and "string" not in kinds and not any(_is(value, kind) for kind in kinds):
        raise GridAppsError(
            f"The argument {name!r} must be {_said(kinds)}, which {text!r} is not.", code="usage"
        )
    return value


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES.get(kind, ()))


def _kinds(schema: Mapping[str, Any], name: str) -> set[str]:
    """The types that the schema allows for an argument; empty if it does not say."""
    properties = schema.get("properties")
    found = properties.get(name) if isinstance(properties, dict) else None
    reference = found.get("$ref") if isinstance(found, dict) else None
    if isinstance(reference, str):
        found = _referred(schema, reference)
    if not isinstance(found, dict):
        return set()
    kinds = found.get("type")
    if isinstance(kinds, str):
        return {kinds}
    if isinstance(kinds, list):
        return {kind for kind in kinds if isinstance(kind, str)}
    choices = found.get("enum")
    if isinstance(choices, list) and choices and all(isinstance(choice, str) for choice in choices):
        return {"string"}
    return set()


def _referred(schema: Mapping[str, Any], reference: str) -> Any:
    found: Any = schema
    for part in reference.removeprefix("#/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _said(kinds: set[str]) -> str:
    return " or ".join(f"{'an' if kind[:1] in 'aeio' else 'a'} {kind}" for kind in sorted(kinds))


def _whole(text: str, value: float) -> int:
    if value > _LARGEST:
        raise GridAppsError(f"{text[:80]!r} is too large.", code="usage")
    return int(value)
