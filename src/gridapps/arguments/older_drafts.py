"""Argument schemas of JSON Schema draft-06 and draft-07, written anew as 2020-12 with the same meaning.

Many generators still write draft-07. Where its meaning cannot be kept by renaming, the schema is refused with
the change to make. The caller has limited size and depth of the schema.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from gridapps.arguments.shape import LISTS_OF_SCHEMAS, MAPS_OF_SCHEMAS, SCHEMAS, Fault, pointer

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_OLDER = re.compile(r"https?://json-schema\.org/draft-0[67]/schema#?\Z")
# These mean nothing in draft-07, so a schema that declares it and has them means something else than it says.
_LATER = frozenset(
    {"prefixItems", "dependentRequired", "dependentSchemas", "minContains", "maxContains", "unevaluatedItems"}
) | {"unevaluatedProperties"}
_NOTES = frozenset(
    {"$ref", "$comment", "title", "description", "default", "examples", "readOnly", "writeOnly"}
)
_MOVED = re.compile(r"/(?:items/\d+|additionalItems|dependencies)(?:/|\Z)")


def is_older(schema: dict[str, Any]) -> bool:
    """Whether a schema declares a draft that is rewritten."""
    return bool(_OLDER.match(str(schema.get("$schema", ""))))


def rewritten(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in 2020-12. `faults_of_draft` has found no fault."""
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "dependencies" and isinstance(value, dict):
            for name, needed in value.items():
                kind = "dependentRequired" if isinstance(needed, list) else "dependentSchemas"
                result.setdefault(kind, {})[name] = needed if isinstance(needed, list) else _inner(needed)
        elif keyword == "items" and isinstance(value, list):
            result["prefixItems"] = [_inner(each) for each in value]
            if "additionalItems" in schema:
                result["items"] = _inner(schema["additionalItems"])
        elif keyword != "additionalItems":  # without a list of items it means nothing
            result[keyword] = _mapped(keyword, value, _inner)
    if is_older(schema):
        result["$schema"] = DIALECT
    return result


def faults_of_draft(schema: dict[str, Any], where: str = "") -> Iterator[Fault]:
    """What cannot be rewritten, with the change to make."""
    for keyword in sorted(_LATER & schema.keys()):
        text = f'Draft-07 ignores {keyword}. Set "$schema" at the top to {DIALECT}, which has it.'
        yield where + pointer([keyword]), text
    reference = schema.get("$ref")
    beside = sorted(schema.keys() - _NOTES - {"$schema", "definitions", "$defs"})
    if reference is not None and beside:
        ignored = f"Draft-07 ignores {', '.join(beside)} beside $ref."
        yield f"{where}/$ref", f'{ignored} Write "allOf": [{{"$ref": ...}}] instead of $ref.'
    if isinstance(reference, str) and _MOVED.search(reference):
        text = (
            "Refer to a schema in #/definitions: lists of items and dependencies move in JSON Schema 2020-12."
        )
        yield f"{where}/$ref", text
    for keyword, value in schema.items():
        for key, each in _below(keyword, value):
            if isinstance(each, dict):
                yield from faults_of_draft(each, where + key)


def _inner(value: object) -> object:
    return rewritten(value) if isinstance(value, dict) else value


def _mapped(keyword: str, value: Any, change: Callable[[object], object]) -> Any:
    """The value of a keyword, with the schemas in it changed."""
    if keyword in SCHEMAS:
        return change(value)
    if keyword in LISTS_OF_SCHEMAS and isinstance(value, list):
        return [change(each) for each in value]
    if keyword in MAPS_OF_SCHEMAS and isinstance(value, dict):
        return {name: change(each) for name, each in value.items()}
    return value


def _below(keyword: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The schemas in the value of a keyword, each with its relative pointer."""
    if isinstance(value, list) and (keyword in LISTS_OF_SCHEMAS or keyword == "items"):
        yield from ((pointer([keyword, index]), each) for index, each in enumerate(value))
    elif isinstance(value, dict) and (keyword in MAPS_OF_SCHEMAS or keyword == "dependencies"):
        yield from ((pointer([keyword, name]), each) for name, each in value.items())
    elif keyword in SCHEMAS or keyword == "additionalItems":
        yield pointer([keyword]), value
