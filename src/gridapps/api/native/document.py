"""The OpenAPI document of the native API."""

import json
from typing import Any

from django.conf import settings
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from gridapps.api.native.authentication import Bearer


def document(api: NinjaAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the native API."""
    schema: dict[str, Any] = json.loads(json.dumps(_Document(api, "/api/v3")))
    schema["servers"] = [{"url": settings.GRIDAPPS.origin}]
    headers = {
        "401": {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
        "429": {"Retry-After": {"required": True, "schema": {"type": "string"}}},
        "503": {"Retry-After": {"required": True, "schema": {"type": "string"}}},
    }
    for path in schema["paths"].values():
        for call in path.values():
            for parameter in call["parameters"]:
                parameter["schema"] = _without_null(parameter["schema"])
            for status, answer in call["responses"].items():
                if status in headers:
                    answer["headers"] = headers[status]
    return schema


class _Document(OpenAPISchema):
    """The document of the framework, with the scope that each call needs."""

    def operation_security(self, operation: Operation) -> list[dict[str, Any]] | None:
        declared: list[dict[str, Any]] | None = super().operation_security(operation)
        for check in operation.auth_callbacks:
            if isinstance(check, Bearer) and declared and (scope := check.needs(operation.methods[0])):
                declared[0]["Bearer"] = [scope]
        return declared


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """An optional parameter is not one that may be null."""
    kinds: list[dict[str, Any]] = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    return rest | kinds[0]
