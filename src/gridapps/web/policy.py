"""Middleware: the content security policy of every page. Scripts and styles are our own files only."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from gridapps.middleware import AfterView

HEADER = "Content-Security-Policy"


def policy(*, form_targets: str = "") -> str:
    """The policy; `form_targets` are origins besides our own that a form may lead to."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        f"font-src 'self'; form-action 'self' {form_targets}; frame-ancestors 'none'; base-uri 'none'"
    )


class ContentPolicy(AfterView):
    """Sets the policy where a view has not set its own."""

    def after(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:  # noqa: ARG002
        response.headers.setdefault(HEADER, policy())
        return response
