"""Middleware: each request has an id, which its log lines carry and its answer tells.

nginx gives it, and passes none on that came from outside.
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
        number = _number(request)
        with context.bound(request=number):
            return _told(request, self._get_response(request), number)

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        number = _number(request)
        with context.bound(request=number):
            return _told(request, await self._get_response(request), number)


def _number(request: HttpRequest) -> str:
    given = request.headers.get(HEADER, "")
    return given if re.fullmatch("[0-9a-f]{32}", given) else uuid.uuid4().hex


def _told(request: HttpRequest, response: HttpResponseBase, number: str) -> HttpResponseBase:
    response.headers[HEADER] = number
    if request.method not in _READING or response.status_code >= 500:
        # The path alone: a query may hold what is nobody's business.
        logger.info("%s %s: %s", request.method, request.path, response.status_code)
    return response
