"""Schemas of draft-07 are rewritten with the same meaning, or refused with the change to make."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft7Validator, Draft202012Validator

from gridapps.arguments import schemas
from gridapps.arguments.schemas import InvalidArguments, InvalidSchema

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def draft_7(**more: Any) -> dict[str, Any]:
    return {"$schema": DRAFT_7, "type": "object", **more}


WRITTEN = draft_7(
    definitions={"cell": {"type": "number", "minimum": 0.1}},
    properties={
        "cell": {"$ref": "#/definitions/cell", "description": "metres", "default": 2},
        "pair": {
            "type": "array",
            "items": [{"type": "integer"}, {"type": "string"}],
            "additionalItems": False,
        },
        "open": {"items": [{"type": "integer"}]},
        "each": {"items": {"type": "integer"}, "additionalItems": False},
        "a": {"default": {"items": [1], "dependencies": {}}},
        "nested": {"anyOf": [{"items": [{"const": 1}]}, {"type": "null"}]},
    },
    dependencies={"a": ["cell"], "pair": {"required": ["open"]}},
)
_VALUES = (
    st.none()
    | st.integers(-1, 2)
    | st.sampled_from(["x", 0.05, [], [1], [1, "x"], ["x"], [1, "x", 2], [1, 1]])
)


def test_a_schema_is_stored_in_2020_12() -> None:
    accepted = schemas.check_schema(WRITTEN)
    assert accepted["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert accepted["dependentRequired"] == {"a": ["cell"]}
    assert accepted["dependentSchemas"] == {"pair": {"required": ["open"]}}
    assert accepted["properties"]["pair"]["prefixItems"][1] == {"type": "string"}
    assert accepted["properties"]["pair"]["items"] is False
    assert accepted["properties"]["each"] == {"items": {"type": "integer"}}
    assert accepted["properties"]["a"] == WRITTEN["properties"]["a"], "a default is data"
    assert "dependencies" in WRITTEN, "the argument is not changed"


@given(arguments=st.dictionaries(st.sampled_from(sorted(WRITTEN["properties"])), _VALUES))
def test_rewritten_schema_accepts_the_same_arguments(arguments: dict[str, Any]) -> None:
    accepted = Draft202012Validator(schemas.check_schema(WRITTEN))
    assert accepted.is_valid(arguments) == Draft7Validator(WRITTEN).is_valid(arguments)


def test_a_default_beside_a_reference_counts() -> None:
    assert schemas.complete(schemas.check_schema(WRITTEN), {})["cell"] == 2


@pytest.mark.parametrize("dialect", [DRAFT_7, DRAFT_7[:-1], "https://json-schema.org/draft-06/schema#"])
def test_the_ways_to_declare_a_draft(dialect: str) -> None:
    assert schemas.check_schema({"$schema": dialect, "type": "object"})["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize(
    ("schema", "where", "words"),
    [
        (draft_7(properties={"a": {"$ref": "#/definitions/b", "minimum": 3}}), "/properties/a/$ref", "allOf"),
        (draft_7(properties={"a": {"prefixItems": []}}), "/properties/a/prefixItems", "2020-12"),
        (
            draft_7(properties={"a": {"items": [{}]}, "b": {"$ref": "#/properties/a/items/0"}}),
            "/properties/b/$ref",
            "#/definitions",
        ),
        (
            draft_7(dependencies={"a": {"unevaluatedProperties": False}}),
            "/dependencies/a/unevaluatedProperties",
            "2020-12",
        ),
        (
            draft_7(items=[{}] * 3, properties={"a": {"$id": "http://x/"}}),
            "/properties/a/$id",
            "references mean",
        ),
        (draft_7(properties={"a": {"type": "numbre"}}), "/properties/a/type", ""),
        (draft_7(title="x" * 70_000), "", "too large"),
    ],
)
def test_schema_whose_meaning_would_change_is_refused_with_the_remedy(
    schema: dict[str, Any], where: str, words: str
) -> None:
    with pytest.raises(InvalidSchema) as raised:
        schemas.check_schema(schema)
    assert words in dict(raised.value.fields)[where]


def _fault(schema: dict[str, Any], value: object) -> dict[str, str]:
    whole = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(InvalidArguments) as raised:
        schemas.complete(whole, {"a": value})
    return dict(raised.value.fields)


def test_a_fault_in_an_optional_field_reads_like_one_in_a_required_field() -> None:
    """As pydantic writes optional fields."""
    number = {"type": "number", "minimum": 3}
    optional = {"anyOf": [number, {"type": "null"}], "default": None}
    assert _fault(optional, 1) == _fault(number, 1) == {"/a": "This value is less than the minimum of 3"}
    inner = {"anyOf": [{"type": "object", "properties": {"b": number}}, {"type": "null"}]}
    assert _fault(inner, {"b": "x"}) == {"/a/b": 'This value is not of type "number"'}


def test_alternatives_that_all_fail_are_listed() -> None:
    either = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    assert _fault(either, "x") == {
        "/a": 'No alternative matches: This value is not of type "number"; This value is not of type "null".'
    }
    shapes = {"oneOf": [{"required": ["x"]}, {"required": ["y"]}]}
    assert '"x" is a required property; "y" is a required property' in _fault(shapes, {})["/a"]
    many = {"anyOf": [{"const": number} for number in range(40)]}
    assert _fault(many, "z")["/a"].endswith("and 35 more.")


def test_two_alternatives_of_which_one_may_match_are_named() -> None:
    assert "more than one" in _fault({"oneOf": [{"type": "number"}, {"minimum": 0}]}, 1)["/a"]
