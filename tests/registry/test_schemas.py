"""Argument schemas: what is taken, what is refused and where, and how defaults are filled in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridapps.arguments import schemas
from gridapps.arguments.schemas import InvalidArguments, InvalidSchema


def refused(schema: object) -> dict[str, str]:
    with pytest.raises(InvalidSchema) as raised:
        schemas.check_schema(schema)
    return dict(raised.value.fields)


def faults(schema: dict[str, Any], arguments: dict[str, Any]) -> dict[str, str]:
    schemas.check_schema(schema)
    with pytest.raises(InvalidArguments) as raised:
        schemas.complete(schema, arguments)
    return dict(raised.value.fields)


def properties(**of: Any) -> dict[str, Any]:
    return {"type": "object", "properties": of}


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        (True, ""),
        ([], ""),
        ({}, "/type"),
        ({"type": "array"}, "/type"),
        ({"type": ["object"]}, "/type"),
        ({"type": "object", "$schema": "http://json-schema.org/draft-04/schema#"}, "/$schema"),
        (properties(a={"type": "numbre"}), "/properties/a/type"),
        (properties(a={"minimum": "x"}), "/properties/a/minimum"),
        (properties(a={"$ref": "http://169.254.169.254/"}), "/properties/a/$ref"),
        (properties(a={"$ref": "file:///etc/passwd"}), "/properties/a/$ref"),
        (properties(a={"$ref": "other.json"}), "/properties/a/$ref"),
        (properties(a={"$ref": "#/$defs/none"}), "/properties/a/$ref"),
        (properties(a={"$ref": "#/properties/b/default"}, b={"default": {}}), "/properties/a/$ref"),
        (properties(a={"$ref": 7}), "/properties/a/$ref"),
        (properties(a={"$id": "http://x/"}), "/properties/a/$id"),
        (properties(a={"$dynamicRef": "#x"}), "/properties/a/$dynamicRef"),
        (properties(a={"$anchor": "x"}), "/properties/a/$anchor"),
        (properties(a={"pattern": "(?=a)"}), "/properties/a/pattern"),
        (properties(a={"pattern": r"(a)\1"}), "/properties/a/pattern"),
        (properties(a={"pattern": "((a{100}){100}){100}"}), "/properties/a/pattern"),
        (properties(a={"pattern": "a" * 1001}), "/properties/a/pattern"),
        (properties(a={"items": {"items": {"$ref": "#/properties/a"}}}), "/properties/a"),
        ({"type": "object", "allOf": {}}, "/allOf"),
        ({"type": "object", "patternProperties": 3}, "/patternProperties"),
        ({"type": "object", "title": "x" * 70_000}, ""),
    ],
)
def test_what_cannot_be_judged_safely_is_refused_with_its_place(schema: object, where: str) -> None:
    assert where in refused(schema)


def test_a_schema_that_small_references_make_huge_is_refused() -> None:
    doubling = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    schema = {"type": "object", "$ref": "#/$defs/d0", "$defs": doubling | {"d40": {}}}
    assert "references written out" in refused(schema)[""]


def test_a_deeply_nested_schema_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    assert "nested too deeply" in refused({"type": "object", "items": schema})[""]


def test_too_many_patterns_are_refused() -> None:
    assert "patterns" in refused(properties(**{f"p{i}": {"pattern": str(i)} for i in range(101)}))[""]


def test_names_of_keywords_are_fine_as_names_of_arguments() -> None:
    schemas.check_schema(properties(**{"$id": {"type": "string"}, "$ref": {"default": {"$ref": "http://x"}}}))


def test_a_default_that_does_not_match_is_refused() -> None:
    assert "/r" in refused(properties(r={"type": "number", "default": "1"}))[""]


def test_required_arguments_do_not_disturb_the_check_of_defaults() -> None:
    schemas.check_schema(properties(r={"type": "number", "default": 1}) | {"required": ["other"]})


def test_defaults_are_filled_through_references_and_allof_in_what_is_there() -> None:
    schema = {
        **properties(
            resolution={"$ref": "#/$defs/length", "default": 0.5},
            height={"$ref": "#/$defs/length"},
            nested={"default": {}, "allOf": [properties(deep={"default": [1]})]},
            absent=properties(never={"default": 1}),
            rows={"type": "array", "items": properties(q={"default": "x"})},
        ),
        "$defs": {"length": {"type": "number", "exclusiveMinimum": 0, "default": 2}},
    }
    schemas.check_schema(schema)
    given_ = {"rows": [{}, {"q": "y"}], "height": 9}
    assert schemas.complete(schema, given_) == {
        "resolution": 0.5,
        "height": 9,
        "nested": {"deep": [1]},
        "rows": [{"q": "x"}, {"q": "y"}],
    }
    assert given_ == {"rows": [{}, {"q": "y"}], "height": 9}, "the caller's arguments stay as they are"
    first, second = schemas.complete(schema, {}), schemas.complete(schema, {})
    first["nested"]["deep"].append(2)
    assert second["nested"] == {"deep": [1]}, "defaults are not shared"
    assert schemas.complete(schema, {}) == second


def test_each_fault_has_its_pointer() -> None:
    schema = properties(
        **{"a/b": {"type": "integer"}, "c~d": {"items": {"pattern": "^x$"}}, "e": {"required": ["f"]}}
    ) | {"additionalProperties": False}
    found = faults(schema, {"a/b": "x", "c~d": ["x", "y"], "e": {}, "g": 1})
    assert set(found) == {"/a~1b", "/c~0d/1", "/e", ""}
    assert found["/a~1b"] == 'This value is not of type "integer"'
    assert "'g'" in found[""]


def test_a_catastrophic_pattern_is_linear() -> None:
    assert "/a" in faults(properties(a={"pattern": "^(a+)+$"}), {"a": "a" * 100_000 + "b"})


def test_defaults_cannot_blow_the_arguments_up() -> None:
    schema = properties(rows={"items": properties(q={"default": "x" * 10_000})})
    assert "At most" in faults(schema, {"rows": [{}] * 10_000})[""]


def test_large_and_deep_arguments_are_refused() -> None:
    assert "At most" in faults({"type": "object"}, {"a": "x" * schemas.MAX_ARGUMENTS})[""]
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert "levels" in faults({"type": "object"}, deep)[""]


def test_listing_faults_takes_no_memory_out_of_proportion() -> None:
    schema = {"type": "object", "allOf": [{"required": ["x"]}] * 150}
    assert list(faults(schema, {"a": ["x"] * 200_000})) == [""]


def test_numbers_of_any_size_are_judged() -> None:
    schema = properties(n={"type": "integer", "maximum": 5})
    assert "/n" in faults(schema, {"n": 10**400})
    assert schemas.complete(schema, {"n": -(10**400)}) == {"n": -(10**400)}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYWORDS = st.sampled_from(
    ["type", "properties", "$ref", "allOf", "items", "default", "pattern", "$defs", "required", "enum",
     "additionalProperties", "patternProperties", "prefixItems", "minimum", "if", "then", "anyOf", "const"]
)  # fmt: skip
_SCHEMAS = st.recursive(
    _JSON | st.sampled_from(["#", "#/$defs", "object", "integer"]),
    lambda inner: st.dictionaries(_KEYWORDS | st.text(max_size=3), inner, max_size=5),
    max_leaves=20,
)


@given(schema=_SCHEMAS, arguments=st.dictionaries(st.text(max_size=3), _JSON, max_size=4))
def test_whatever_is_sent_as_schema_is_taken_or_refused_in_words(
    schema: object, arguments: dict[str, Any]
) -> None:
    if isinstance(schema, dict):
        schema["type"] = "object"
    try:
        schemas.check_schema(schema)
    except InvalidSchema as error:
        assert error.fields  # noqa: PT017 (either way is fine, but never silence)
        return
    assert isinstance(schema, dict)
    try:
        assert set(arguments) <= set(schemas.complete(schema, arguments))
    except InvalidArguments as error:
        assert error.fields  # noqa: PT017 (either way is fine, but never silence)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(a+", "is not a regular expression: missing ), unterminated subpattern at position 0."),
        ("*a", "is not a regular expression: nothing to repeat at position 0."),
        ("a(?=b)", "is not supported: look-around, back-references and very large repetitions are not."),
        (r"(a)\1", "is not supported: look-around, "),
        ("(?<!x)y", "is not supported: look-around, "),
        ("((a{900}){900}){900}", "is not supported: "),
    ],
)
def test_why_a_pattern_is_refused(pattern: str, told: str) -> None:
    with pytest.raises(schemas.InvalidSchema) as caught:
        schemas.check_schema({"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}})
    ((where, sentence),) = caught.value.fields
    assert where == "/properties/x/pattern"
    assert told in sentence
