"""The page on which a user allows an application to act for them."""

import re
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from oauth2_provider.views import AuthorizationView

from gridapps.access.applications import PLACE
from gridapps.web.policy import HEADER, policy


class Consent(AuthorizationView):  # type: ignore[misc]
    """Asks every time, so that no page can silently use a consent given earlier."""

    template_name = "consent.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Remove the parameter that could skip the question from the query."""
        query = request.GET.copy()
        query.pop("approval_prompt", None)
        request.GET = query  # type: ignore[assignment]
        answer: HttpResponse = super().dispatch(request, *args, **kwargs)
        return answer

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        """The page, whose form may lead to the application's redirect address."""
        answer: HttpResponse = super().render_to_response(context, **kwargs)
        # It has been compared with the registered addresses.
        if target := context.get("redirect_uri"):
            parts = urlsplit(target)
            # Other addresses may have been registered before these rules.
            if parts.scheme in {"http", "https"} and re.fullmatch(PLACE, parts.netloc):
                answer[HEADER] = policy(form_targets=f"{parts.scheme}://{parts.netloc}")
        answer["Cache-Control"] = "no-store"
        return answer
