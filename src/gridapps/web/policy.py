"""Middleware: the content security policy of every page. Scripts and styles are our own files only."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

HEADER = "Content-Security-Policy"


def policy(*, form_targets: str = "") -> str:
    """The policy; `form_targets` are origins besides our own that a form may lead to."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        f"font-src 'self'; form-action 'self' {form_targets}; frame-ancestors 'none'; base-uri 'none'"
    )


class ContentPolicy:
    """Sets the policy where a view has not set its own."""

    async_capable, sync_capable = True, True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        return self._later(request) if self._async else _set(self._get_response(request))

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        return _set(await self._get_response(request))


def _set(response: HttpResponseBase) -> HttpResponseBase:
    response.headers.setdefault(HEADER, policy())
    return response
