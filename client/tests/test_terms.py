"""Options are converted into values of the API, or refused with a sentence."""

from typing import Any

import pytest
from gridapps_client import GridAppsError, terms

SCHEMA = {
    "$defs": {"size": {"type": "number"}, "a/b": {"type": "boolean"}},
    "properties": {
        "resolution": {"type": "number"},
        "name": {"type": "string"},
        "either": {"type": ["string", "integer"]},
        "method": {"enum": ["smrf", "pmf"]},
        "classes": {"type": "array"},
        "window": {"$ref": "#/$defs/size"},
        "odd": {"$ref": "#/$defs/a~1b"},
        "level": {"type": "integer"},
        "nothing": {"type": "null"},
        "free": {},
        "remote": {"$ref": "https://example.org/x"},
    },
}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("resolution=0.5", 0.5),
        ("name=3", "3"),
        ("name=true", "true"),
        ('name="3"', "3"),
        ("name=a=b", "a=b"),
        ("name=", ""),
        ("either=3", 3),
        ("either=x", "x"),
        ("method=smrf", "smrf"),
        ("classes=[2, 6]", [2, 6]),
        ("window=18", 18),
        ("odd=true", True),
        ("level=3", 3),
        ("nothing=null", None),
        ("free=1", 1),
        ("free=word", "word"),
        ('free={"a": 1}', {"a": 1}),
        ("remote=1", 1),
        ("unknown=yes", "yes"),
    ],
)
def test_typed_by_the_schema(word: str, value: Any) -> None:
    assert terms.arguments([word], schema=SCHEMA) == {word.partition("=")[0]: value}


@pytest.mark.parametrize(
    "word", ["resolution=wide", "resolution=true", "classes=2", "level=NaN", "odd=1", "noequals", "=1"]
)
def test_a_word_that_can_mean_nothing(word: str) -> None:
    with pytest.raises(GridAppsError, match=r"must be an? \w+, which|write name=value"):
        terms.arguments([word], schema=SCHEMA)


def test_an_argument_twice() -> None:
    with pytest.raises(GridAppsError, match="'name' is given twice"):
        terms.arguments(["name=a", "name=b"], schema=SCHEMA)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "{", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a":' * 100_000],
    ids=lambda text: text[:12],
)
def test_no_json_object(text: str) -> None:
    with pytest.raises(GridAppsError, match=r"schema\.json"):
        terms.json_object(text, source="schema.json")


def test_sizes_and_times() -> None:
    assert [terms.number_of_bytes(text) for text in ("7", "1k", "512M", "2GiB", "1.5 g", "1TB")] == [
        7,
        1024,
        512 * 1024**2,
        2 * 1024**3,
        1536 * 1024**2,
        1024**4,
    ]
    assert [terms.number_of_seconds(text) for text in ("90", "90s", "10m", "1.5h", "2d")] == [
        90,
        90,
        600,
        5400,
        172800,
    ]


@pytest.mark.parametrize("text", ["", "much", "-1", "1X", "G", "1e9"])
def test_no_size(text: str) -> None:
    with pytest.raises(GridAppsError, match="is not a size"):
        terms.number_of_bytes(text)
    with pytest.raises(GridAppsError, match="is not a time"):
        terms.number_of_seconds(text)
