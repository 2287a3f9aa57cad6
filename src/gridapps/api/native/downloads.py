"""Answers that are files: to be saved, never to be shown, because strangers made what is in them."""

from typing import TypeVar
from urllib.parse import quote

from django.http.response import HttpResponseBase

T = TypeVar("T", bound=HttpResponseBase)
BINARY = {"schema": {"type": "string", "format": "binary"}}


def as_file(answer: T, name: str) -> T:
    """The same answer, saved under this name by browsers, which neither guess its type nor keep it."""
    answer["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, no-cache"
    return answer
