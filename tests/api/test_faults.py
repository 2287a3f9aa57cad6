"""Sentences for wrong requests: one for each error that a declared request can have."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from ninja.openapi.schema import OpenAPISchema
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from gridapps.api.native import faults
from gridapps.api.native.api import api
from tests.api.conftest import Callers, MakeApp

WRONG: list[Any] = [
    None, "", "x", "\ud800", "Header", "-1", "1.5", "x" * 5000, "2026-01-31", "2026-02-31T00:00:00Z",
    "2026-01-31T00:00:00", "\0", "ü", 0, -1, 2**70, 1.5, math.nan, math.inf, True, [], [1], ["x"] * 2000, {},
    {"x": 1}, [{}], {"export": 1}, {"exportfile": {}},
]  # fmt: skip
PYDANTIC = re.compile("(?i)input|instance|should|valid |pydantic|unable|<class|must be a valid|\\^")


def models() -> Iterator[type[BaseModel]]:
    """What the framework makes of each call's query, path and body."""
    for _, router in api._routers:
        for view in router.path_operations.values():
            for operation in view.operations:
                yield from operation.models


def bodies(model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    """Wrong values for each field, and for each field inside of it, down to all levels of the shapes."""
    schema = models_json_schema([(model, "validation")])[1]
    names = {name for part in _parts(schema) for name in part.get("properties", {})}
    for key in model.model_fields:
        for wrong in WRONG:
            yield {key: wrong}
            for name in names:
                yield {key: {name: wrong}}
                yield {key: {"export": "1", name: wrong}}
                yield {key: {"resources": {name: wrong}, "files": [{name: wrong}], "hook": {name: wrong}}}


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    for each in schema if isinstance(schema, list) else ():
        yield from _parts(each)


def test_every_error_that_a_declared_request_can_have_has_a_sentence() -> None:
    seen: dict[str, str] = {}
    for model in models():
        for body in bodies(model):
            try:
                model.model_validate(body)
            except ValidationError as error:
                for fault in error.errors():
                    assert fault["type"] in faults.SENTENCES, (model, body, fault)
                    text = faults.sentence(fault)
                    assert re.fullmatch(r"[A-Z].*\.", text), text
                    assert not PYDANTIC.search(text), text
                    seen[fault["type"]] = text
    assert len(seen) > 15, seen


def test_every_declared_pattern_is_described() -> None:
    document = json.dumps(OpenAPISchema(api, path_prefix="/api/v3"))
    patterns = {
        json.loads(f'"{text}"') for text in re.findall(r'"pattern": "((?:[^"\\\\]|\\\\.)*)"', document)
    }
    own = {pattern for pattern in patterns if pattern not in faults._PATTERNS}
    # Those that are described by the operations, which judge them.
    assert own <= {
        pattern for pattern in own if "run[.]started" in pattern or "http" in pattern or "T[0-9]" in pattern
    }, own


@pytest.mark.parametrize(
    ("body", "pointer", "text"),
    [
        (
            {"id": "Header", "title": "x"},
            "/id",
            "An app-id has 1 to 63 lower-case letters, digits and dashes, ",
        ),
        ({"id": "a", "title": "x", "resources": {"memory": 2**60}}, "/resources/memory", "At most 8192 TiB."),
        (
            {"id": "a", "title": "x", "resources": {"memory": "2G"}},
            "/resources/memory",
            "This must be a whole number.",
        ),
        ({"id": "a", "title": ""}, "/title", "At least 1 character."),
        ({"id": "a"}, "/title", "This is missing."),
        ([], "", "This must be a JSON object."),
    ],
)
@pytest.mark.django_db
def test_refusals_of_a_new_app(callers: Callers, body: Any, pointer: str, text: str) -> None:
    answer = callers.developer("POST", "/apps", body)
    assert answer.status_code == 400
    (field,) = answer.json()["fields"]
    assert field["pointer"] == pointer
    assert field["error"].startswith(text)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "text"), [(7, "This must be a JSON object."), ({"arguments": {}}, "This is missing.")]
)
def test_refusals_of_a_submission(callers: Callers, make_app: MakeApp, body: Any, text: str) -> None:
    make_app()
    answer = callers.developer("POST", "/apps/roads/runs", body)
    assert answer.status_code == 400
    assert answer.json()["fields"][0]["error"] == text
    assert "ExportSubmission" not in answer.content.decode()
