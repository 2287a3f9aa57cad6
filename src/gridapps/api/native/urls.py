"""URLs below /api/v3/. What is not among the calls is answered as one that is not there."""

from django.http import HttpRequest, HttpResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from gridapps.api.errors import say
from gridapps.api.native import openapi
from gridapps.api.native.api import answered, api


@csrf_exempt
def nothing(request: HttpRequest) -> HttpResponse:
    """404 for every other path."""
    return answered(
        say("not-found", f"There is no call {request.path[:200]!r}; /api/v3/openapi.json lists all.")
    )


urlpatterns = [
    path("openapi.json", openapi.view),
    path("", api.urls),
    re_path("", nothing),
]
