"""Differences between existing and absent things: in answers, and in queries to the database."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

VOLATILE = {"X-Request-ID", "Set-Cookie", "Expires"}  # new with each answer, or with each second


@dataclass(frozen=True)
class Heard:
    """Everything observable of an answer. `shapes` are the queries without their values."""

    status: int
    body: str
    headers: Mapping[str, str]
    shapes: tuple[str, ...]


def listen(ask: Callable[[], Any], names: Mapping[str, str]) -> Heard:
    """The answer, with the requested keys replaced by their names."""

    def plain(text: str) -> str:
        for value in sorted(names, key=len, reverse=True):
            text = text.replace(value, f"<{names[value]}>")
        return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", text)

    with CaptureQueriesContext(connection) as asked:
        answer = ask()
    content = answer.content.decode() if not answer.streaming else "a stream"
    headers = {name: plain(value) for name, value in answer.headers.items() if name not in VOLATILE}
    return Heard(answer.status_code, plain(content), headers, tuple(map(_shape, asked.captured_queries)))


def _shape(query: Mapping[str, Any]) -> str:
    return re.sub(r"'(?:[^']|'')*'|\b[0-9a-f]{32}\b|\bs\d+_x\d+\b|\b\d+\b", "?", query["sql"])


def spellings(places: Mapping[str, tuple[str, str]]) -> Iterator[Mapping[str, str]]:
    """Each combination of existing and absent keys; in the last one all are absent."""
    for chosen in product(*places.values()):
        yield dict(zip(places, chosen, strict=True))
