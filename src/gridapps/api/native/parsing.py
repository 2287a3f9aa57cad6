"""Parsing of untrusted input: strict JSON, and the keys in a path."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja.parser import Parser

from gridapps.api.errors import ApiError

MAX_DEPTH = 80
MAX_KEYS = 100
UUID_PATTERN = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
UUIDS_PATTERN = f"^{UUID_PATTERN}(,{UUID_PATTERN}){{0,{MAX_KEYS - 1}}}$"
PK_PATTERN = "[1-9][0-9]{0,17}"
PKS_PATTERN = f"^{PK_PATTERN}(,{PK_PATTERN}){{0,{MAX_KEYS - 1}}}$"


class JsonParser(Parser):
    """JSON of RFC 8259 in UTF-8, without NaN, duplicate names, NUL and unpaired surrogates."""

    def parse_body(self, request: HttpRequest) -> Any:
        """The value of the body. Raises ApiError."""
        if request.content_type != "application/json":
            raise ApiError("unsupported-media-type", "The body must be application/json.")
        if (request.content_params or {}).get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
            raise ApiError("unsupported-media-type", "The body must be in UTF-8.")
        return parse(request.body)


def parse(body: bytes) -> Any:
    """The value of a JSON text. Raises ApiError."""
    try:
        value = json.loads(
            body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique
        )
    except UnicodeDecodeError as error:
        raise ApiError("invalid-json", f"The body is not UTF-8: byte {error.start} is wrong.") from None
    except RecursionError:
        raise ApiError("invalid-json", f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise ApiError("invalid-json", f"The body is not JSON: {error}") from None
    _check_strings(value)
    return value


def uuids(keys: str) -> list[UUID]:
    """The keys of a path segment such as `a,b`, each once. Raises ApiError (404) for impossible keys."""
    if not re.fullmatch(UUIDS_PATTERN, keys):
        raise not_found()
    return [UUID(key) for key in dict.fromkeys(keys.split(","))]


def uuid(key: str) -> UUID:
    """The one key of a path segment. Raises ApiError (404) for an impossible key, and for a list."""
    if not re.fullmatch(UUID_PATTERN, key):
        raise not_found()
    return UUID(key)


def pks(keys: str) -> list[int]:
    """The keys of a path segment such as `1,2`, each once. Raises ApiError (404) for impossible keys."""
    if not re.fullmatch(PKS_PATTERN, keys):
        raise not_found()
    return [int(key) for key in dict.fromkeys(keys.split(","))]


def primary_key(key: str) -> int:
    """The one key of a path segment. Raises ApiError (404) for an impossible key, and for a list."""
    if not re.fullmatch(PK_PATTERN, key):
        raise not_found()
    return int(key)


def not_found() -> ApiError:
    """The same response for what does not exist and for what belongs to another user."""
    return ApiError("not-found", "There is nothing here, or it is not yours.")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        count = Counter(name for name, _ in pairs)
        double = next(name for name in count if count[name] > 1)
        raise ValueError(f"the name {double!r} occurs twice in one object")
    return value


def _check_strings(value: Any) -> None:
    """Refuse too deep nesting, and strings that databases or terminals cannot handle; level by level."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        following: list[Any] = []
        for each in level:
            if isinstance(each, str):
                _check_string(each)
            elif isinstance(each, dict):
                following += each
                following += each.values()
            elif isinstance(each, list):
                following += each
        if not following:
            return
        level = following
    raise ApiError("invalid-json", f"The body is nested deeper than {MAX_DEPTH} levels.")


def _check_string(text: str) -> None:
    if "\0" in text:
        raise ApiError("invalid-json", r"Strings must not contain \u0000.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ApiError("invalid-json", "A string contains half of a surrogate pair.") from None


def names(parameters: Iterable[str], known: set[str]) -> None:
    """Refuse unknown query parameters. Raises ApiError."""
    unknown = sorted(set(parameters) - known)
    if unknown:
        fields = [(f"?{name[:100]}", "There is no such parameter.") for name in unknown[:20]]
        raise ApiError("invalid-request", "The query has parameters that the call does not accept.", fields)
