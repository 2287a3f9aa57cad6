"""OAuth applications on the settings page."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from gridapps.access import applications
from gridapps.access.errors import InvalidApplication
from gridapps.web.forms import ApplicationForm, user_of
from gridapps.web.home import show_settings


@require_POST
@login_required
def register(request: HttpRequest) -> HttpResponse:
    """Register an application and show its secret once."""
    form = ApplicationForm(request.POST)
    if not form.is_valid():
        return show_settings(request, application_form=form)
    try:
        application, secret = applications.register(
            by=user_of(request),
            name=form.cleaned_data["app_name"],
            kind=applications.Kind(form.cleaned_data["kind"]),
            redirect_uris=form.cleaned_data["redirect_uris"],
            scopes=form.cleaned_data["scopes"],
        )
    except InvalidApplication as error:
        form.add_error(None, str(error))
        return show_settings(request, application_form=form)
    answer = render(request, "application.html", {"application": application, "secret": secret})
    answer["Cache-Control"] = "no-store"
    return answer


@require_POST
@login_required
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete one of the user's applications and its tokens."""
    if pk >= 2**63 or not applications.delete(by=user_of(request), pk=pk):
        raise Http404
    messages.success(request, "The application and its tokens have been deleted.")
    return redirect("settings")
