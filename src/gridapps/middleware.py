"""What every middleware of ours is: one that works before synchronous and asynchronous views alike."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class AfterView:
    """Changes responses: a middleware says how in `after`."""

    async_capable, sync_capable = True, True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        return self._later(request) if self._async else self.after(request, self.get_response(request))

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        return self.after(request, await self.get_response(request))

    def after(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """The response as it is to be sent."""
        raise NotImplementedError
