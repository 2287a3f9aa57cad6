"""Middleware: below /api/v3 every failure is JSON, also what never came as far as a call."""

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from gridapps.api import errors
from gridapps.middleware import AfterView

_PREFIX = "/api/v3/"
_BY_STATUS = {
    400: ("invalid-request", "The request is malformed."),
    403: ("csrf-failed", "The page is out of date: load it again, and then try again."),
    404: ("not-found", "There is nothing here."),
    405: ("method-not-allowed", "The call does not know this method; the Allow header lists those it knows."),
    413: ("too-large", "The body is larger than the API takes."),
}


class JsonErrors(AfterView):
    """Rewrites the framework's own error pages."""

    def after(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return _enveloped(request, response)


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
