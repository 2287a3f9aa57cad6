"""The page on which a user lets an application act for them."""

import re
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from oauth2_provider.views import AuthorizationView

from gridapps.access.applications import PLACE
from gridapps.web.policy import HEADER, policy


class Consent(AuthorizationView):  # type: ignore[misc]
    """Asks each time: a consent given once must not be used silently by whatever page sends the user here."""

    template_name = "consent.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Before anything else, what could skip the question is taken out of the query."""
        query = request.GET.copy()
        query.pop("approval_prompt", None)
        request.GET = query  # type: ignore[assignment]
        answer: HttpResponse = super().dispatch(request, *args, **kwargs)
        return answer

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        """The page, from which the form may lead to the application's redirect address."""
        answer: HttpResponse = super().render_to_response(context, **kwargs)
        # The address was compared with the registered ones before this page is shown.
        if target := context.get("redirect_uri"):
            parts = urlsplit(target)
            # Others were registered before such addresses were refused.
            if parts.scheme in {"http", "https"} and re.fullmatch(PLACE, parts.netloc):
                answer[HEADER] = policy(form_targets=f"{parts.scheme}://{parts.netloc}")
        answer["Cache-Control"] = "no-store"
        return answer
