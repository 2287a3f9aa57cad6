"""Sentences for what pydantic finds wrong in a request. Its own texts are for programmers of Python."""

from collections.abc import Callable, Mapping
from typing import Any

from gridapps.api.native.parsing import PK_PATTERN, PKS_PATTERN, UUID_PATTERN, UUIDS_PATTERN
from gridapps.api.native.run_shapes import TAG_OR_DIGEST
from gridapps.registry.models import APP_ID
from gridapps.sandbox.resources import LEAST, shown

_DIGEST = "A digest is written sha256: and 64 hexadecimal digits."
_KEY = "This is not a key that the instance gives."
# What may stand where a pattern is declared. A test finds patterns that are missing here.
_PATTERNS: Mapping[str, str] = {
    APP_ID: "An app-id has 1 to 63 lower-case letters, digits and dashes, and no dash at its ends.",
    TAG_OR_DIGEST: "A release is named by its tag, such as v1, or by its digest, sha256: and 64 digits.",
    "^sha256:[0-9a-f]{64}$": _DIGEST,
    "^([0-9a-f]{64})?$": "A SHA-256 is written as 64 hexadecimal digits in lower case.",
    r"^[ -~]*$": "Only characters of ASCII that can be printed.",
    "^[0-9]{1,9}/.+$": "An output is named by the index of its task, a slash, and its path.",
    "^[0-9a-f]{1,40}$": "A serial number has up to 40 hexadecimal digits.",
    "^[0-9a-f]{1,32}$": "The beginning of an id has up to 32 hexadecimal digits, without hyphens.",
    "^[0-9]{1,9}-[0-9]{1,9}$": "Tasks are given as first and last index with a dash, such as 0-99.",
    "^[0-9]{1,4}$": "The index of a file has up to 4 digits.",
    f"^{PK_PATTERN}$": _KEY,
    f"^{UUID_PATTERN}$": _KEY,
    UUIDS_PATTERN: _KEY,
    PKS_PATTERN: _KEY,
}


def _bound(words: str) -> Callable[[str, dict[str, Any]], str]:
    """A sentence about the bound of a number, with its unit."""

    def sentence(name: str, context: dict[str, Any]) -> str:
        (bound,) = (context[key] for key in ("ge", "gt", "le", "lt") if key in context)
        unit = "disk" if name == "size" else name
        return f"{words} {shown(unit, bound) if unit in LEAST else f'{bound:g}'}."

    return sentence


def _length(words: str, unit: str) -> Callable[[str, dict[str, Any]], str]:
    def sentence(_: str, context: dict[str, Any]) -> str:
        (bound,) = (context[key] for key in ("min_length", "max_length") if key in context)
        return f"{words} {bound} {unit if bound == 1 else unit + 's'}."

    return sentence


def _pattern(_: str, context: dict[str, Any]) -> str:
    return _PATTERNS.get(context["pattern"], "This does not have the right form.")


_TEXT, _NUMBER = "This must be a text (a JSON string).", "This must be a number."
_WHOLE, _TRUTH = "This must be a whole number.", "This must be true or false."
_TIME = "A time is written as in RFC 3339, such as 2026-01-31T00:00:00Z."
# By pydantic's type of the error: the sentence, or what makes it of the field's name and the error's facts.
SENTENCES: Mapping[str, str | Callable[[str, dict[str, Any]], str]] = {
    "missing": "This is missing.",
    "extra_forbidden": "There is no such field.",
    "string_type": _TEXT,
    "string_unicode": "This text has characters that Unicode does not allow.",
    "string_too_short": _length("At least", "character"),
    "string_too_long": _length("At most", "character"),
    "string_pattern_mismatch": _pattern,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "greater_than": _bound("More than"),
    "greater_than_equal": _bound("At least"),
    "less_than": _bound("Less than"),
    "less_than_equal": _bound("At most"),
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "literal_error": lambda _, context: f"One of {context['expected']}.",
    "enum": lambda _, context: f"One of {context['expected']}.",
    "dict_type": "This must be a JSON object.",
    "model_type": "This must be a JSON object.",
    "model_attributes_type": "This must be a JSON object.",
    "list_type": "This must be a list (a JSON array).",
    "too_short": _length("At least", "item"),
    "too_long": _length("At most", "item"),
    "none_required": "This must be null.",
    "value_error": lambda _, context: f"{context['error']}.",
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "timezone_aware": _TIME,
}


def sentence(fault: Mapping[str, Any]) -> str:
    """What is wrong at the place of this error of pydantic."""
    known = SENTENCES.get(fault["type"], "This does not have the right form.")
    if isinstance(known, str):
        return known
    place = fault.get("loc") or ("",)
    return known(str(place[-1]), dict(fault.get("ctx") or {}))[:500]
