"""Argument schemas of Apps: JSON Schema 2020-12 within limits. The application calls it through
`checking`.

Patterns run on an engine of linear time, references stay inside the schema and are never circular, and the
size of the schema with all references expanded is limited. docs/decisions/0010-argument-schemas.md has the
reasons.
"""

import copy
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs

from gridapps.access.refusals import Refused
from gridapps.arguments import older_drafts
from gridapps.arguments.cost import examine_cost
from gridapps.arguments.mismatches import brief, faults_of
from gridapps.arguments.shape import examine_shape, follow, pointer, too_large

MAX_ARGUMENTS = 1024**2  # bytes of the argument object: the container contract's limit
MAX_DEPTH = 64  # of the argument object
MAX_FAULTS = 20
# Listing faults takes memory proportional to schema times arguments. Beyond this, none are listed.
_LISTABLE = 20 * 1024**2
_BEYOND = re.compile(r"\(\?<?[=!]|\\[1-9k]|\(\?P=")  # look-around and back-references
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=256 * 1024, dfa_size_limit=256 * 1024)


class InvalidSchema(Refused):
    """The schema is not accepted. `fields`: JSON pointers into the schema, each with a sentence."""

    code = "invalid-schema"


class InvalidArguments(Refused):
    """The arguments do not match the schema. `fields`: JSON pointers into them, each with a sentence."""

    code = "invalid-arguments"


def check_schema(schema: object) -> dict[str, Any]:
    """The schema in JSON Schema 2020-12, which is the schema itself unless it declares draft-06 or draft-07.

    Raises InvalidSchema unless this is an acceptable argument schema.
    """
    schema = _in_2020_12(schema)
    faults = examine_shape(schema)
    if faults:
        raise InvalidSchema("The argument schema is invalid.", faults)
    assert isinstance(schema, dict)
    try:
        validator = _compile(text(schema))
    except jsonschema_rs.ValidationError as error:
        sentence = brief(error.message)
        if error.kind.name == "format":
            sentence = _pattern_fault(str(error.instance))
        fault = (pointer(error.instance_path), sentence)
        raise InvalidSchema("The argument schema is invalid.", [fault]) from None
    if costs := examine_cost(schema):
        raise InvalidSchema("The argument schema would cost too much.", costs)
    _check_defaults(schema, validator)
    return schema


def _pattern_fault(written: str) -> str:
    """Why a pattern is not accepted. The library does not say it. Nothing is matched with the pattern."""
    words = f"The pattern {brief(text(written))}"
    if not _BEYOND.search(written):
        try:
            re.compile(written)
        except (re.error, OverflowError, RecursionError) as error:
            return f"{words} is not a regular expression: {error}."
    return f"{words} is not supported: look-around, back-references and very large repetitions are not."


def _in_2020_12(schema: object) -> object:
    if not isinstance(schema, dict) or not older_drafts.is_older(schema) or too_large(schema):
        return schema
    if faults := list(islice(older_drafts.faults_of_draft(schema), MAX_FAULTS)):
        raise InvalidSchema("The argument schema cannot be read as JSON Schema 2020-12.", faults)
    return older_drafts.rewritten(schema)


def complete(schema: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """A valid copy of the arguments with the schema's defaults filled in. Raises InvalidArguments.

    Missing properties get their defaults, also in existing nested objects and lists and through `$ref` and
    `allOf`, but not through `anyOf`, `oneOf` and `if`, where the branch is ambiguous.
    """
    require_size(arguments)
    whole = copy.deepcopy(arguments)
    filled = _Filler(schema)
    filled.fill(schema, whole, ())
    size = _size(whole)
    if size > MAX_ARGUMENTS:
        raise InvalidArguments(
            "The arguments are too large with the defaults.", [("", f"At most {MAX_ARGUMENTS} bytes.")]
        )
    written = text(schema)
    validator = _compile(written)
    if validator.is_valid(whole):
        return whole
    if size * len(written) > _LISTABLE:
        raise InvalidArguments(
            "The arguments do not match the App's schema.",
            [("", "Something in here does not match, and there is too much of it to say what.")],
        )
    errors = validator.iter_errors(whole)
    faults = list(islice((fault for error in errors for fault in faults_of(error)), MAX_FAULTS))
    raise InvalidArguments("The arguments do not match the App's schema.", faults)


def require_size(arguments: dict[str, Any]) -> None:
    """Raise InvalidArguments if they are larger or nested more deeply than any schema allows."""
    if _depth(arguments) > MAX_DEPTH:
        raise InvalidArguments("The arguments are nested too deeply.", [("", f"At most {MAX_DEPTH} levels.")])
    if _size(arguments) > MAX_ARGUMENTS:
        raise InvalidArguments("The arguments are too large.", [("", f"At most {MAX_ARGUMENTS} bytes.")])


class _Filler:
    """Fills in defaults in place. Raises InvalidArguments if the result would be too large."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._left = MAX_ARGUMENTS
        self.filled: list[tuple[str | int, ...]] = []

    def fill(self, schema: object, value: Any, path: tuple[str | int, ...]) -> None:
        for part in _parts(self._root, schema):
            if isinstance(value, dict):
                self._fill_object(part, value, path)
            elif isinstance(value, list):
                prefix = part.get("prefixItems", [])
                for index, item in enumerate(value):
                    inner = prefix[index] if index < len(prefix) else part.get("items", True)
                    if isinstance(item, dict | list) and isinstance(inner, dict):
                        self.fill(inner, item, (*path, index))

    def _fill_object(self, part: dict[str, Any], value: dict[str, Any], path: tuple[str | int, ...]) -> None:
        for name, inner in part.get("properties", {}).items():
            if name not in value:
                found = next((p for p in _parts(self._root, inner) if "default" in p), None)
                if found is None:
                    continue
                self._spend(_size(found["default"]) + len(name))
                value[name] = copy.deepcopy(found["default"])
                self.filled.append((*path, name))
            if isinstance(value[name], dict | list):
                self.fill(inner, value[name], (*path, name))

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise InvalidArguments(
                "The arguments are too large with the defaults.", [("", f"At most {MAX_ARGUMENTS} bytes.")]
            )


def _check_defaults(schema: dict[str, Any], validator: jsonschema_rs.Validator) -> None:
    """Raise InvalidSchema for defaults that do not match the schema."""
    empty: dict[str, Any] = {}
    filler = _Filler(schema)
    filler.fill(schema, empty, ())
    starts = {pointer(path) for path in filler.filled}
    faults = []
    for error in islice(validator.iter_errors(empty), MAX_FAULTS):
        where = pointer(error.instance_path)
        if any(where == start or where.startswith(f"{start}/") for start in starts):
            faults.append(("", f"The default at {where} does not match: {brief(error.message)}"))
    if faults:
        raise InvalidSchema("A default in the argument schema does not match the schema.", faults)


def _parts(root: dict[str, Any], schema: object) -> Iterator[dict[str, Any]]:
    """The schema, the schema that it refers to, and the members of its `allOf`. All of them apply."""
    if not isinstance(schema, dict):
        return
    yield schema
    if "$ref" in schema:
        yield from _parts(root, follow(root, schema["$ref"]))
    for member in schema.get("allOf", []):
        yield from _parts(root, member)


@lru_cache(maxsize=64)
def _compile(written: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        json.loads(written),
        mask="This value",
        pattern_options=_PATTERNS,
        validate_formats=False,
        offline=True,
    )


def text(value: object) -> str:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _size(value: object) -> int:
    return len(text(value).encode("utf-8", "surrogatepass"))


def _depth(value: object) -> int:
    """Levels of nesting, determined without recursion."""
    deepest, level = 0, [value]
    while level and deepest <= MAX_DEPTH:
        deepest += 1
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return deepest
