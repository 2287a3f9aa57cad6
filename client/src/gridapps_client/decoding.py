"""Decode the JSON of an answer into the dataclasses of `models`, with a sentence for what does not fit.

Unknown fields are ignored, so that newer instances work.
"""

from __future__ import annotations

import re
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from gridapps_client.errors import BadAnswer

T = TypeVar("T")
_TIME = re.compile(
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.(?P<fraction>[0-9]+))?"
    r"(?P<offset>Z|[+-][0-9]{2}:[0-9]{2})"
)


def decode(kind: type[T], value: object, *, where: str = "answer") -> T:
    """`value` as `kind`. Raises BadAnswer if it does not fit; `where` names the value in its message."""
    result: T = _decode(kind, value, where)
    return result


def member(answer: object, name: str) -> object:
    """`answer[name]`. Raises BadAnswer unless `answer` is a JSON object that has it."""
    if not isinstance(answer, dict) or name not in answer:
        raise _misfit("answer", f"an object with {name!r}")
    return answer[name]


def _decode(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if isinstance(kind, types.UnionType):
        return None if value is None else _decode(get_args(kind)[0], value, where)
    if kind is datetime:
        return _time(value, where)
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, value, where)
    origin = get_origin(kind)
    if origin is list:
        return [
            _decode(get_args(kind)[0], item, f"{where}[{index}]")
            for index, item in enumerate(_plain(list, value, where))
        ]
    if origin is dict:
        return {
            key: _decode(get_args(kind)[1], item, f"{where}.{key}")
            for key, item in _plain(dict, value, where).items()
        }
    return _plain(kind, value, where)


def _time(value: Any, where: str) -> datetime:
    found = _TIME.fullmatch(value) if type(value) is str else None
    if not found:
        raise _misfit(where, "a time in RFC 3339")
    offset = "+00:00" if found["offset"] == "Z" else found["offset"]
    try:
        return datetime.fromisoformat(f"{found['time']}.{found['fraction'] or '0':0<6.6}{offset}")
    except ValueError:
        raise _misfit(where, "a time in RFC 3339") from None


def _plain(kind: type[Any], value: Any, where: str) -> Any:
    if kind is float and type(value) is int and abs(value) < 2**1023:
        return float(value)
    # `type is`, because a bool is an int in Python.
    if type(value) is not kind:
        raise _misfit(where, kind.__name__)
    return value


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    given = _plain(dict, value, where)
    known = {}
    for each, hint in _described(kind):
        if each.name in given:
            known[each.name] = _decode(hint, given[each.name], f"{where}.{each.name}")
        elif each.default is MISSING and each.default_factory is MISSING:
            raise _misfit(where, f"an object with {each.name!r}")
    return kind(**known)


@cache
def _described(kind: type[Any]) -> tuple[tuple[Field[Any], Any], ...]:
    hints = get_type_hints(kind)
    return tuple((each, hints[each.name]) for each in fields(kind))


def _misfit(where: str, wanted: str) -> BadAnswer:
    return BadAnswer(
        f"The instance's answer does not fit this client ({where} should be {wanted}); "
        "is the URL right, and are both of the same version?",
        code="bad-answer",
    )
