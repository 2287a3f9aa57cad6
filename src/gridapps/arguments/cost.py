"""Limits on the cost of an argument schema. They assume that the schema's shape was examined."""

from typing import Any

import jsonschema_rs

from gridapps.arguments.shape import Fault, follow, subschemas

MAX_STEPS = 200  # schemas against which one value of the arguments may be checked
MAX_PATTERN_SIZE = 256 * 1024  # bytes of all compiled patterns together
_SMALLEST_SIZE = 1024  # bytes that each compiled pattern counts at least
_PER_STEP = 8  # names or values in a list that count as one schema

_ALL = ("allOf", "anyOf", "oneOf")
_ONE = ("not", "if", "then", "else")


def examine_cost(schema: dict[str, Any]) -> list[Fault]:
    """Why checking some arguments against the schema would cost too much, and what to change."""
    steps = _steps(schema, schema)
    if steps > MAX_STEPS:
        return [
            ("", f"One value of the arguments would be held against up to {steps} schemas; at most "
                 f"{MAX_STEPS}. Use fewer of allOf, anyOf, oneOf, contains and patternProperties, and "
                 "shorter lists in enum and required.")
        ]  # fmt: skip
    sizes = [_size(pattern) for pattern in _patterns(schema)]
    if sum(sizes) > MAX_PATTERN_SIZE:
        return [
            ("", f"The patterns are too large when compiled: {sum(sizes) // 1024} KiB together; at most "
                 f"{MAX_PATTERN_SIZE // 1024}. Use fewer patterns, smaller repetitions such as {{1,50}}, and "
                 "narrower sets of characters.")
        ]  # fmt: skip
    return []


def _steps(root: dict[str, Any], schema: object) -> int:
    """The largest number of schemas against which any one value within this schema is checked."""
    if not isinstance(schema, dict):
        return 1

    def of(found: object) -> int:
        return 0 if found is None else _steps(root, found)

    steps = 1 + _length(schema.get("enum")) // _PER_STEP + _length(schema.get("required")) // _PER_STEP
    steps += sum(map(_length, _values(schema, "dependentRequired"))) // _PER_STEP
    steps += sum(of(schema.get(keyword)) for keyword in _ONE)
    steps += sum(of(each) for keyword in _ALL for each in _items(schema, keyword))
    steps += sum(map(of, _values(schema, "dependentSchemas")))
    if "$ref" in schema:
        steps += of(follow(root, schema["$ref"]))
    # A property has one name and an item one index, so of these schemas only the costliest counts.
    names = max(map(of, [*_values(schema, "properties"), schema.get("additionalProperties")]))
    names += sum(map(of, _values(schema, "patternProperties")))
    names += of(schema.get("propertyNames")) + of(schema.get("unevaluatedProperties"))
    items = max(map(of, [*_items(schema, "prefixItems"), schema.get("items")]))
    items += of(schema.get("contains")) + of(schema.get("unevaluatedItems"))
    return steps + max(names, items)


def _patterns(schema: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for each in subschemas(schema):
        if isinstance(pattern := each.get("pattern"), str):
            found.append(pattern)
        if isinstance(named := each.get("patternProperties"), dict):
            found += named
    return found


def _size(pattern: str) -> int:
    """A power of two that the compiled pattern fits into. Invalid patterns are refused elsewhere."""
    size = _SMALLEST_SIZE
    while size < MAX_PATTERN_SIZE and not _fits(pattern, size):
        size *= 2
    return size


def _fits(pattern: str, size: int) -> bool:
    options = jsonschema_rs.RegexOptions(size_limit=size)
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options, offline=True)
    except jsonschema_rs.ValidationError:
        return False
    return True


def _values(schema: dict[str, Any], keyword: str) -> list[Any]:
    found = schema.get(keyword)
    return list(found.values()) if isinstance(found, dict) else []


def _items(schema: dict[str, Any], keyword: str) -> list[Any]:
    found = schema.get(keyword)
    return found if isinstance(found, list) else []


def _length(found: object) -> int:
    return len(found) if isinstance(found, list) else 0
