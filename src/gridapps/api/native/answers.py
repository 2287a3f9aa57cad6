"""The responses of a call for its OpenAPI declaration: its own, and all possible errors."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model

from gridapps.api.errors import CODES


def _without_defaults(schema: dict[str, Any]) -> None:
    # Defaults mark fields that may be absent. They are not the meaning of their absence.
    for member in schema.get("properties", {}).values():
        member.pop("default", None)


class Shape(BaseModel):
    """An object that the API sends or accepts. It has no other fields than those declared."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_without_defaults)


class FieldError(Shape):
    """`pointer`: JSON pointer into the body, or `?name` of a query parameter."""

    pointer: str
    error: str


def _error(status: int) -> type[Shape]:
    codes = tuple(code for code, of in CODES.items() if of == status)
    fields: dict[str, Any] = {"error": (str, ...), "code": (Literal[codes], ...)}
    if status in {400, 409}:
        fields["fields"] = (list[FieldError], [])
    if status == 500:
        fields["id"] = (str, ...)
    return create_model(f"Error{status}", __base__=Shape, **fields)


ERRORS = {status: _error(status) for status in sorted(set(CODES.values())) if status != 405}


def reads(*others: int, ok: Any) -> dict[int, Any]:
    """A call that changes nothing: its response, and errors besides the usual ones."""
    return {200: ok} | {status: ERRORS[status] for status in (400, 401, 403, *others, 500, 503)}


def writes(*others: int, body: bool, **ok: Any) -> dict[int, Any]:
    """A call that changes something. `ok` has its responses as `status_201=...`."""
    usual = (400, 401, 403, *((413, 415) if body else ()), *others, 500, 503)
    own = {int(name.removeprefix("status_")): shape for name, shape in ok.items()}
    return own | {status: ERRORS[status] for status in sorted(usual)}
