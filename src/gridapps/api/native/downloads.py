"""Responses that are files. Browsers must save and not show them, because their content is not trusted."""

from typing import TypeVar
from urllib.parse import quote

from django.http.response import HttpResponseBase

T = TypeVar("T", bound=HttpResponseBase)
BINARY = {"schema": {"type": "string", "format": "binary"}}


def as_file(answer: T, name: str) -> T:
    """The same response with headers that let browsers save it under this name, without guessing its type or
    caching it."""
    answer["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, no-cache"
    return answer
