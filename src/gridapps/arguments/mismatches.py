"""Sentences about arguments that do not match a schema."""

from collections.abc import Iterator
from typing import Any

from gridapps.arguments.shape import Fault, pointer

_MOST_ALTERNATIVES = 5
_DEEPEST = 4  # alternatives within each other


def faults_of(error: Any, depth: int = 0) -> Iterator[Fault]:
    """The faults that an error of the validator stands for.

    Of `anyOf` and `oneOf` the alternatives for other types are set aside, so that a wrong number in an
    optional field reads like one in a required field.
    """
    branches = error.kind.context if error.kind.name in {"anyOf", "oneOf"} and depth < _DEEPEST else None
    if not isinstance(branches, list) or not any(branches):  # also if several alternatives of `oneOf` match
        yield pointer(error.instance_path), brief(error.message)
        return
    place = pointer(error.instance_path)
    meant = [branch for branch in branches if branch and not _of_another_type(branch, place)]
    if len(meant) == 1:
        for each in meant[0]:
            yield from faults_of(each, depth + 1)
        return
    reasons = [_reason(branch[0], place) for branch in meant or branches if branch]
    shown = "; ".join(dict.fromkeys(reasons[:_MOST_ALTERNATIVES]))
    more = len(reasons) - _MOST_ALTERNATIVES
    yield place, f"No alternative matches: {shown}{f'; and {more} more' if more > 0 else ''}."


def _of_another_type(branch: list[Any], place: str) -> bool:
    return any(each.kind.name == "type" and pointer(each.instance_path) == place for each in branch)


def _reason(error: Any, place: str) -> str:
    inside = pointer(error.instance_path).removeprefix(place)
    return f"{brief(error.message)}{f' (at {inside})' if inside else ''}"


def brief(message: str) -> str:
    """A message of the validator as a sentence of limited length."""
    sentence = message if len(message) <= 300 else f"{message[:297]}..."
    return sentence[:1].upper() + sentence[1:]
