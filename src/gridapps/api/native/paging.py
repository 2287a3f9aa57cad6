"""Key set pagination: a page starts after the last row of the previous one, even if rows were added."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from django.conf import settings
from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from pydantic import BeforeValidator, Field

from gridapps.api.errors import ApiError

T = TypeVar("T", bound=Model)


def _digits(value: Any) -> Any:
    # int() accepts spaces and underscores as well.
    return int(value) if isinstance(value, str) and re.fullmatch("-?[0-9]{1,10}", value) else value


def _truth(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


# Query parameters, without conversions.
Digits = BeforeValidator(_digits)
Flag = Annotated[bool, Field(strict=True), BeforeValidator(_truth)]
Limit = Annotated[int, Field(strict=True, ge=1, le=1000, description="rows on a page"), Digits]
After = Annotated[str | None, Field(max_length=500, description="the end of the previous page; opaque")]


def page(
    request: HttpRequest, rows: QuerySet[T], keys: Sequence[str], *, limit: int, after: str | None
) -> tuple[list[T], dict[str, str]]:
    """One page of rows, and `{"next": URL}` unless it is the last one.

    `keys` are the fields of the order, with a leading `-` for descending; the last one is unique. Raises
    ApiError for an `after` that is not from this list.
    """
    salt = f"after:{request.path}"
    if after is not None:
        rows = rows.filter(_beyond(keys, _opened(after, salt, len(keys))))
    found = list(rows.order_by(*keys)[: limit + 1])
    if len(found) <= limit:
        return found, {}
    last = found[limit - 1]
    mark = signing.dumps([_value(last, key) for key in keys], salt=salt)
    query = {name: value for name, value in request.GET.items() if name != "after"} | {"after": mark}
    return found[:limit], {"next": f"{settings.GRIDAPPS.origin}{request.path}?{urlencode(query)}"}


def _opened(after: str, salt: str, length: int) -> list[Any]:
    try:
        values = signing.loads(after, salt=salt)
    except signing.BadSignature:
        values = None
    if not isinstance(values, list) or len(values) != length:
        fields = [("?after", "Copy it from the `next` of the previous page.")]
        raise ApiError("invalid-request", "The value of `after` is not from this list.", fields)
    return values


def _beyond(keys: Sequence[str], values: Sequence[Any]) -> Q:
    """Rows whose keys follow the values in the order of the list."""
    condition = Q()
    for key, value in reversed(list(zip(keys, values, strict=True))):
        name = key.removeprefix("-")
        further = Q(**{f"{name}__{'lt' if key.startswith('-') else 'gt'}": value})
        condition = further | (Q(**{name: value}) & condition) if condition else further
    # A redundant condition: databases cannot find the start of an index range from a disjunction.
    name, value = keys[0].removeprefix("-"), values[0]
    return Q(**{f"{name}__{'lte' if keys[0].startswith('-') else 'gte'}": value}) & condition


def _value(row: Model, key: str) -> str | int:
    value: Any = row
    for part in key.removeprefix("-").split("__"):
        value = getattr(value, part)
    if isinstance(value, int):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
