"""Middleware: each request has an id, which its log lines carry and its answer tells, and an address.

nginx gives both, and passes nothing of the kind on that came from outside.
"""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from gridapps import context

logger = logging.getLogger(__name__)

HEADER = "X-Request-ID"
_READING = {"GET", "HEAD", "OPTIONS"}
_MAX_PATH = 200  # characters of a path in a line


class RequestIds:
    """Binds the id, and logs requests that change something and those at which the instance failed."""

    async_capable, sync_capable = True, True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._async:
            return self._later(request)
        ids = _ids(request)
        with context.bound(**ids):
            return _told(request, self._get_response(request), ids["request"])

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        ids = _ids(request)
        with context.bound(**ids):
            return _told(request, await self._get_response(request), ids["request"])


def _ids(request: HttpRequest) -> dict[str, str]:
    number, address = request.headers.get(HEADER, ""), request.headers.get("X-Forwarded-For", "")
    ids = {"request": number if re.fullmatch("[0-9a-f]{32}", number) else uuid.uuid4().hex}
    return ids | ({"address": address} if re.fullmatch("[0-9a-fA-F.:]{1,45}", address) else {})


def _told(request: HttpRequest, response: HttpResponseBase, number: str) -> HttpResponseBase:
    response.headers[HEADER] = number
    if request.method not in _READING or response.status_code >= 500:
        # The path alone: a query may hold what is nobody's business.
        path = request.path if len(request.path) <= _MAX_PATH else f"{request.path[:_MAX_PATH]}..."
        logger.info("%.10s %s: %s", request.method, path, response.status_code)
    return response
