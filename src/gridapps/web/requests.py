"""Middleware: each request has an id and a client address. Log lines carry both; the response carries the id.

nginx sets both headers and discards what the client sent in them.
"""

import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from gridapps.audit import context

logger = logging.getLogger(__name__)

HEADER = "X-Request-ID"
_READING = {"GET", "HEAD", "OPTIONS"}
_MAX_PATH = 200  # characters of a path in a line


@sync_and_async_middleware
def request_ids(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Bind the ids, and log requests that change something and those that the instance failed to serve."""
    if iscoroutinefunction(get_response):

        async def later(request: HttpRequest) -> HttpResponseBase:
            ids = _ids(request)
            with context.bound(**ids):
                return _logged(request, await get_response(request), ids["request"])

        return later

    def now(request: HttpRequest) -> HttpResponseBase:
        ids = _ids(request)
        with context.bound(**ids):
            return _logged(request, get_response(request), ids["request"])

    return now


def _ids(request: HttpRequest) -> dict[str, str]:
    number, address = request.headers.get(HEADER, ""), request.headers.get("X-Forwarded-For", "")
    ids = {"request": number if re.fullmatch("[0-9a-f]{32}", number) else uuid.uuid4().hex}
    return ids | ({"address": address} if re.fullmatch("[0-9a-fA-F.:]{1,45}", address) else {})


def _logged(request: HttpRequest, response: HttpResponseBase, number: str) -> HttpResponseBase:
    response.headers[HEADER] = number
    if request.method not in _READING or response.status_code >= 500:
        # Without the query, which may hold secrets.
        path = request.path if len(request.path) <= _MAX_PATH else f"{request.path[:_MAX_PATH]}..."
        logger.info("%.10s %s: %s", request.method, path, response.status_code)
    return response
