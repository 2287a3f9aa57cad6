"""The shape of an argument schema: its keywords, references and size.

Pure functions of the untrusted schema, which run before any validator reads it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

Fault = tuple[str, str]  # JSON pointer, sentence

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32  # levels as written
MAX_NODES = 500  # schemas, with all references expanded
MAX_UNFOLDED_DEPTH = 64  # levels, with all references expanded
MAX_PATTERNS = 100
MAX_PATTERN = 1000  # characters

SCHEMAS = {
    "additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else",
    "unevaluatedItems", "unevaluatedProperties", "contentSchema",
}  # fmt: skip
LISTS_OF_SCHEMAS = {"allOf", "anyOf", "oneOf", "prefixItems"}
MAPS_OF_SCHEMAS = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_REFUSED = {
    "$id": "it would change what references mean",
    "$anchor": "refer by JSON pointer, such as #/$defs/name",
    "$dynamicRef": "refer by JSON pointer with $ref, such as #/$defs/name",
    "$dynamicAnchor": "refer by JSON pointer, such as #/$defs/name",
    "$recursiveRef": "refer by JSON pointer with $ref, such as #/$defs/name",
    "$recursiveAnchor": "refer by JSON pointer, such as #/$defs/name",
    "$vocabulary": "the vocabulary is that of JSON Schema 2020-12",
    "id": "it is of an older JSON Schema",
    "dependencies": "use dependentRequired or dependentSchemas",
    "additionalItems": "use prefixItems with items",
}
_DIALECTS = {
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2020-12/schema#",
}


def examine_shape(schema: object) -> list[Fault]:
    """All faults in the shape of a schema. A schema without any may still be invalid."""
    if not isinstance(schema, dict):
        return [("", "An argument schema is a JSON object.")]
    if fault := too_large(schema):
        return [("", fault)]
    faults = []
    if schema.get("type") != "object":
        faults.append(("/type", 'The arguments are one JSON object: "type" must be "object" here.'))
    if schema.get("$schema", "") not in {"", *_DIALECTS}:
        faults.append(
            (
                "/$schema",
                "JSON Schema 2020-12, draft-07 and draft-06 are supported. Set $schema to "
                "https://json-schema.org/draft/2020-12/schema, and see what changed since your draft at "
                "https://json-schema.org/specification.",
            )
        )
    found = dict(_schemas(schema))
    patterns = 0
    for where, each in found.items():
        faults += _faults_of(where, each, found)
        named = each.get("patternProperties")
        patterns += ("pattern" in each) + (len(named) if isinstance(named, dict) else 0)
    if patterns > MAX_PATTERNS:
        faults.append(("", f"At most {MAX_PATTERNS} patterns."))
    return faults[:20] or _unfold(found)


def pointer(path: Iterable[str | int]) -> str:
    """JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def follow(root: dict[str, Any], reference: str) -> Any:
    """The target of a local reference in an examined schema."""
    found: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def subschemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All schemas within an examined schema, itself included."""
    return (each for _, each in _schemas(schema))


def too_large(schema: dict[str, Any]) -> str | None:
    """Why the schema is too large, determined without recursion from the approximate size of its JSON."""
    size, level = 0, [schema]
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                size += sum(len(name) + 4 for name in each)
                following += each.values()
            elif isinstance(each, list):
                following += each
            else:
                size += len(str(each))
            size += 2
        if size > MAX_BYTES:
            return f"The schema is too large: at most {MAX_BYTES} bytes."
        level = following
        if not level:
            return None
    return f"The schema is nested too deeply: at most {MAX_DEPTH} levels."


def _schemas(schema: dict[str, Any], where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas within a schema, itself included, by pointer. Defaults are data and are skipped."""
    yield where, schema
    for key, inner in _inner(schema):
        if isinstance(inner, dict):
            yield from _schemas(inner, where + key)


def _inner(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The direct subschemas of a schema, each with its relative pointer."""
    for keyword, value in schema.items():
        if keyword in SCHEMAS:
            yield pointer([keyword]), value
        elif keyword in LISTS_OF_SCHEMAS and isinstance(value, list):
            yield from ((pointer([keyword, index]), inner) for index, inner in enumerate(value))
        elif keyword in MAPS_OF_SCHEMAS and isinstance(value, dict):
            yield from ((pointer([keyword, name]), inner) for name, inner in value.items())


def _faults_of(where: str, schema: dict[str, Any], known: dict[str, dict[str, Any]]) -> Iterator[Fault]:
    for keyword in schema:
        if keyword in _REFUSED:
            yield where + pointer([keyword]), f"{keyword} is not supported: {_REFUSED[keyword]}."
    if where and "$schema" in schema:
        yield f"{where}/$schema", "$schema is only for the top of the schema."
    if "$ref" in schema and (fault := _fault_of_reference(schema["$ref"], known)):
        yield f"{where}/$ref", fault
    yield from _faults_of_patterns(where, schema)


def _fault_of_reference(reference: object, known: dict[str, dict[str, Any]]) -> str:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return "Only references within the schema are followed, such as #/$defs/name."
    if reference.removeprefix("#") not in known or reference == "#/":
        return "There is no schema at this place. (Write names as they are, without % codes.)"
    return ""


def _faults_of_patterns(where: str, schema: dict[str, Any]) -> Iterator[Fault]:
    patterns = [("/pattern", schema.get("pattern"))]
    if isinstance(schema.get("patternProperties"), dict):
        patterns += [(pointer(["patternProperties", name]), name) for name in schema["patternProperties"]]
    for key, pattern in patterns:
        if isinstance(pattern, str) and len(pattern) > MAX_PATTERN:
            yield where + key, f"A pattern may have {MAX_PATTERN} characters."


def _unfold(known: dict[str, dict[str, Any]]) -> list[Fault]:
    """Refuse circular references, and small schemas that references expand to large ones."""
    measured: dict[str, tuple[int, int]] = {}
    open_: set[str] = set()

    def measure(where: str) -> tuple[int, int]:
        """Schemas and levels at this pointer, with all references expanded."""
        if where in measured:
            return measured[where]
        if where in open_ or len(open_) > 500:
            raise RecursionError(where)
        open_.add(where)
        schema = known[where]
        inner = [where + key for key, each in _inner(schema) if isinstance(each, dict)]
        if "$ref" in schema:
            inner.append(schema["$ref"].removeprefix("#"))
        sizes = [measure(each) for each in inner]
        open_.discard(where)
        measured[where] = (1 + sum(n for n, _ in sizes), 1 + max((d for _, d in sizes), default=0))
        return measured[where]

    try:
        nodes, levels = measure("")
    except RecursionError as error:
        return [(str(error), "The references form a circle here; recursive schemas are not supported.")]
    if nodes > MAX_NODES or levels > MAX_UNFOLDED_DEPTH:
        return [
            ("", f"With its references written out the schema is too large: {MAX_NODES} schemas, "
                 f"{MAX_UNFOLDED_DEPTH} levels.")
        ]  # fmt: skip
    return []
