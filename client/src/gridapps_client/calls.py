"""Calls of the API: a request, and its answer decoded as the dataclasses of `models`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from gridapps_client.decoding import decode, member
from gridapps_client.errors import BadAnswer
from gridapps_client.transport import Transport

T = TypeVar("T")
BASE = "/api/v3"


class Calls:
    """The API behind a transport. Paths are relative to BASE."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def json(
        self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The parsed JSON of an answer."""
        return self.transport.json(method, BASE + path, body=body, headers=headers)[0]

    def pages(
        self, kind: type[T], path: str, name: str, params: Mapping[str, str] | None = None
    ) -> Iterator[T]:
        """The items of a list, page after page."""
        where: str | None = BASE + path
        query = httpx.QueryParams(params or {})
        while where is not None:
            answer, _, _ = self.transport.json("GET", where, params=dict(query))
            page = member(answer, name)
            if not isinstance(page, list):
                raise BadAnswer(f"The instance sent {name!r} that is not a list.", code="bad-answer")
            for each in page:
                yield decode(kind, each, where=name)
            following = answer.get("next")
            if following is None:
                return
            # Take only the query, so that the token is sent to this call of this instance and nowhere else.
            after = httpx.QueryParams(urlsplit(str(following)).query)
            if not page or after == query:
                raise BadAnswer(f"The instance sent endless pages of {name!r}.", code="bad-answer")
            query = after


def one(kind: type[T], answer: object, name: str) -> T:
    """The only item of the list `answer[name]`."""
    found = member(answer, name)
    if not isinstance(found, list) or len(found) != 1:
        raise BadAnswer(f"The answer should have one item in {name!r}.", code="bad-answer")
    return decode(kind, found[0], where=name)
