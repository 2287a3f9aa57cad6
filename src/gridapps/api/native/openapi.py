"""The OpenAPI document, and what the calls' signatures alone do not say of it: keys in paths, headers."""

import json
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Path
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation
from pydantic import WithJsonSchema

from gridapps.api.native.authentication import Bearer
from gridapps.api.native.parsing import PK_PATTERN, PKS_PATTERN, UUID_PATTERN, UUIDS_PATTERN
from gridapps.registry.models import APP_ID

if TYPE_CHECKING:
    from ninja import NinjaAPI


def _key(pattern: str, description: str) -> Any:
    # Only described, not validated: a key that cannot be any is answered as one that is not there, with 404.
    return WithJsonSchema({"type": "string", "pattern": pattern, "description": description})


AppId = Annotated[str, Path(), _key(APP_ID, "app-id")]
RunId = Annotated[str, Path(), _key(f"^{UUID_PATTERN}$", "key of a run")]
RunIds = Annotated[str, Path(), _key(UUIDS_PATTERN, "key of a run, or several separated by commas")]
OutputPath = Annotated[str, Path(), _key("^[0-9]{1,9}/.+$", "index of the task, and the path below /grid")]
Serial = Annotated[str, Path(), _key("^[0-9a-f]{1,40}$", "serial number of a certificate")]
Pk = Annotated[str, Path(), _key(f"^{PK_PATTERN}$", "key")]
DigestKey = Annotated[str, Path(), _key("^sha256:[0-9a-f]{64}$", "digest of a release")]
AttachmentKey = Annotated[str, Path(), _key("^sha256:[0-9a-f]{64}$", "digest of an attachment")]
Pks = Annotated[str, Path(), _key(PKS_PATTERN, "key, or several separated by commas")]


def etag(status: int) -> dict[str, Any]:
    """Declares the ETag header of an answer."""
    header = {"description": "changes with every change", "required": True, "schema": {"type": "string"}}
    return {"responses": {status: {"headers": {"ETag": header}}}}


def if_match() -> dict[str, Any]:
    """Declares the If-Match header of a request."""
    return {"parameters": [_header("If-Match", "the ETag that was seen last, or *")]}


def if_none_match() -> dict[str, Any]:
    """Declares the If-None-Match header of a request."""
    return {"parameters": [_header("If-None-Match", "the ETag that was seen last")]}


def content(status: int, **types: Any) -> dict[str, Any]:
    """Declares an answer that is not JSON."""
    return {"responses": {status: {"content": types}}}


def document(api: "NinjaAPI") -> dict[str, Any]:
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
    """As the framework makes it, with the scope that each call needs of a token."""

    def operation_security(self, operation: Operation) -> list[dict[str, Any]] | None:
        declared: list[dict[str, Any]] | None = super().operation_security(operation)
        for check in operation.auth_callbacks:
            if isinstance(check, Bearer) and declared and (scope := check.needs(operation.methods[0])):
                declared[0]["Bearer"] = [scope]
        return declared


@cache
def _text(api: "NinjaAPI") -> bytes:
    return json.dumps(document(api), ensure_ascii=False).encode()


def view(_: HttpRequest) -> HttpResponse:
    """`/api/v3/openapi.json`, for everybody."""
    from gridapps.api.native.api import api

    return HttpResponse(_text(api), content_type="application/json")


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is not one that may be null."""
    kinds: list[dict[str, Any]] = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    return rest | kinds[0]


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "in": "header", "name": name, "required": False, "description": description,
        "schema": {"type": "string"},
    }  # fmt: skip
