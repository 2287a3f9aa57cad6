"""The token endpoint of OAuth, also for logins of devices (RFC 8628), and the endpoint where these begin."""

from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_POST
from oauth2_provider.models import AccessToken, Application
from oauth2_provider.signals import app_authorized
from oauth2_provider.views import TokenView
from oauthlib.common import Request

from gridapps.access import device_logins
from gridapps.access.codes import stored
from gridapps.access.device_logins import Refusal
from gridapps.access.errors import TooManyCodes
from gridapps.access.models import User
from gridapps.access.scopes import OfApplication
from gridapps.audit import context

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# Of all applications only the command can log in from a device: any other could imitate its page.
CLIENT_ID = "gridapps-cli"
_SENTENCES = {
    Refusal.PENDING: "The user has not decided yet.",
    Refusal.TOO_EARLY: "Wait longer between two requests.",
    Refusal.DENIED: "The user has refused the login.",
    Refusal.EXPIRED: "The code has expired; begin again.",
    Refusal.UNKNOWN: "The device code is unknown, or was used already.",
}


class Token(TokenView):  # type: ignore[misc]
    """Tokens for codes, refresh tokens and credentials of applications, and for logins of devices."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The token, or an error of OAuth as JSON."""
        if request.POST.get("grant_type") == DEVICE_GRANT:
            return self._for_device(request)
        answer: HttpResponse = self.authorization_flow_token_response(request, *args, **kwargs)
        return answer

    def _for_device(self, request: HttpRequest) -> HttpResponse:
        if request.POST.get("client_id") != CLIENT_ID:
            return _error("unauthorized_client", "This application cannot log in from a device.")
        with transaction.atomic():
            found = device_logins.collect(device_code=request.POST.get("device_code", ""))
            if isinstance(found, Refusal):
                return _error(found, _SENTENCES[found])
            user, scopes = found
            issued = self._issue(user, list(scopes))
            token = AccessToken.objects.get(token_checksum=stored(issued["access_token"]))
            app_authorized.send(sender=self, request=request, token=token)
        return _uncached(JsonResponse(issued))

    def _issue(self, user: User, scopes: list[str]) -> dict[str, Any]:
        """A new access token with a refresh token, as for an authorization code."""
        server = self.get_oauthlib_core().server
        asked = Request("")
        asked.client = Application.objects.get(client_id=CLIENT_ID)
        asked.user, asked.scopes, asked.grant_type = user, scopes, DEVICE_GRANT
        issued: dict[str, Any] = server.bearer.create_token(asked, refresh_token=True)
        server.request_validator.save_bearer_token(issued, asked)
        return dict(issued)


@require_POST
def begin_device_login(request: HttpRequest) -> HttpResponse:
    """Begin the login of a device: its code, and the code that its user enters (RFC 8628, 3.2)."""
    if request.POST.get("client_id") != CLIENT_ID:
        return _error("unauthorized_client", "This application cannot log in from a device.")
    allowed = OfApplication().get_available_scopes(Application.objects.get(client_id=CLIENT_ID))
    scopes = request.POST.get("scope", "api").split()
    if not scopes or not set(scopes) <= set(allowed):
        return _error("invalid_scope", f"The scopes are {', '.join(allowed)}.")
    try:
        begun = device_logins.begin(scopes=dict.fromkeys(scopes), address=context.current().get("address"))
    except TooManyCodes as error:
        return _error("temporarily_unavailable", str(error), status=503)
    return _uncached(
        JsonResponse(
            {
                "device_code": begun.device_code,
                "user_code": begun.user_code,
                "verification_uri": settings.GRIDAPPS.origin + reverse("device"),
                "expires_in": int(device_logins.LIFETIME.total_seconds()),
                "interval": device_logins.INTERVAL,
            }
        )
    )


def _error(code: str, sentence: str, *, status: int = 400) -> HttpResponse:
    return _uncached(JsonResponse({"error": str(code), "error_description": sentence}, status=status))


def _uncached(response: JsonResponse) -> JsonResponse:
    response["Cache-Control"] = "no-store"
    return response
