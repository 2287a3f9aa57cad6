"""URLs below /api/v3/. Other paths get a 404 in the form of the API."""

import json
from functools import cache

from django.http import HttpRequest, HttpResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from gridapps.api.errors import say
from gridapps.api.native.api import answered, api
from gridapps.api.native.document import document


@cache
def _document() -> bytes:
    return json.dumps(document(api), ensure_ascii=False).encode()


def openapi(_: HttpRequest) -> HttpResponse:
    """The OpenAPI document. It needs no login."""
    return HttpResponse(_document(), content_type="application/json")


@csrf_exempt
def nothing(request: HttpRequest) -> HttpResponse:
    """404 for every other path."""
    return answered(
        say("not-found", f"There is no call {request.path[:200]!r}; /api/v3/openapi.json lists all.")
    )


urlpatterns = [
    path("openapi.json", openapi),
    path("", api.urls),
    re_path("", nothing),
]
