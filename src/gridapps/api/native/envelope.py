"""Middleware: below /api/v3 every failure is JSON, including those that occur before a call is reached."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from gridapps.api import errors

_PREFIX = "/api/v3/"
_BY_STATUS = {
    400: ("invalid-request", "The request is malformed."),
    403: ("csrf-failed", "The page is out of date: load it again, and then try again."),
    404: ("not-found", "There is nothing here."),
    405: (
        "method-not-allowed",
        "This path does not support the method; the Allow header lists the supported ones.",
    ),
    413: ("too-large", "The body is larger than the API accepts."),
}


@sync_and_async_middleware
def json_errors(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Replace the error pages of the framework."""
    if iscoroutinefunction(get_response):

        async def later(request: HttpRequest) -> HttpResponseBase:
            return _enveloped(request, await get_response(request))

        return later
    return lambda request: _enveloped(request, get_response(request))


def _enveloped(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if request.path.startswith(_PREFIX):
        response.headers.setdefault("Cache-Control", "private, no-cache")
    if (
        response.status_code < 400
        or not request.path.startswith(_PREFIX)
        or response.headers.get("Content-Type", "").startswith("application/json")
    ):
        return response
    known = _BY_STATUS.get(response.status_code)
    answer = errors.say(*known) if known else errors.unexpected(None)
    replacement = JsonResponse(answer.body, status=answer.status, headers=answer.headers)
    if "Allow" in response.headers:
        replacement.headers["Allow"] = response.headers["Allow"]
    return replacement
