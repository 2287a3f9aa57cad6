"""Middleware: each path that answers GET answers HEAD with the same status and headers.

A path that has a HEAD of its own and no GET keeps it. The server leaves out the body, except of streams,
which it would produce first.
"""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

_NO_SUCH_METHOD = 405  # the view did nothing


@sync_and_async_middleware
def head_as_get(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Let views see GET."""
    if iscoroutinefunction(get_response):

        async def later(request: HttpRequest) -> HttpResponseBase:
            if request.method != "HEAD":
                return await get_response(request)  # type: ignore[no-any-return]
            request.method = "GET"
            response = await get_response(request)
            request.method = "HEAD"
            if response.status_code == _NO_SUCH_METHOD:
                response = await get_response(request)
            return _without_stream(response)

        return later

    def now(request: HttpRequest) -> HttpResponseBase:
        if request.method != "HEAD":
            return get_response(request)  # type: ignore[no-any-return]
        request.method = "GET"
        response = get_response(request)
        request.method = "HEAD"
        if response.status_code == _NO_SUCH_METHOD:
            response = get_response(request)
        return _without_stream(response)

    return now


def _without_stream(response: HttpResponseBase) -> HttpResponseBase:
    if not response.streaming:
        return response
    # What produces the stream has not begun, and holds nothing.
    bare = HttpResponse(status=response.status_code, headers=dict(response.headers))
    bare.cookies = response.cookies
    return bare
