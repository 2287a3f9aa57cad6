"""The page of metrics, for administrators and for holders of the operator's token."""

import hmac
from functools import cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from gridapps.access.permissions import is_administrator
from gridapps.access.scopes import ADMIN
from gridapps.api.errors import ApiError, answer
from gridapps.api.metrics.collector import registry
from gridapps.api.native.authentication import Bearer

_registry = cache(registry)


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """`GET /metrics`, in Prometheus's text format."""
    try:
        if not _may_read(request):
            raise ApiError(
                "not-an-administrator", "Metrics are for administrators and for the operator's token."
            )
        found: CollectorRegistry = _registry()
        text = generate_latest(found)
    except Exception as error:
        said = answer(error)
        return HttpResponse(
            f"{said.body['error']}\n", status=said.status, headers=said.headers, content_type="text/plain"
        )
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"Cache-Control": "no-store"})


def _may_read(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ApiError("unauthenticated", "A bearer token is needed.")
    expected = settings.GRIDAPPS.metrics_token
    if expected and hmac.compare_digest(token.strip().encode(), expected.encode()):
        return True
    return is_administrator(Bearer(read=ADMIN, write=ADMIN).authenticate(request, token.strip()))
