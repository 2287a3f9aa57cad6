"""The page where a user enters the code that a terminal shows, and allows or refuses its login."""

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_POST

from gridapps.access import device_logins
from gridapps.access.errors import TooManyCodes, UnknownCode
from gridapps.access.scopes import SCOPES
from gridapps.web.forms import user_of


class CodeForm(forms.Form):
    """The code."""

    code = forms.CharField(
        max_length=40,
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}
        ),
        help_text="The terminal shows it, such as BCDF-GHJK.",
    )


@require_http_methods(["GET", "POST"])
@login_required
def enter(request: HttpRequest) -> HttpResponse:
    """Ask for the code, and then for the decision."""
    form = CodeForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return _page(request, form)
    code = form.cleaned_data["code"]
    try:
        login = device_logins.waiting(user=user_of(request), code=code)
    except (UnknownCode, TooManyCodes) as error:
        form.add_error("code", str(error))
        return _page(request, form)
    shown = {"login": login, "code": code, "scopes": [SCOPES[scope] for scope in login.scopes]}
    return _uncached(render(request, "device_decision.html", shown))


@require_POST
@login_required
def decide(request: HttpRequest) -> HttpResponse:
    """Allow or refuse the login."""
    allow = "allow" in request.POST
    try:
        device_logins.decide(by=user_of(request), code=request.POST.get("code", ""), allow=allow)
    except (UnknownCode, TooManyCodes) as error:
        form = CodeForm({"code": ""})
        form.errors["code"] = form.error_class([str(error)])
        return _page(request, form)
    return _uncached(render(request, "device_decided.html", {"allowed": allow}))


def _page(request: HttpRequest, form: CodeForm) -> HttpResponse:
    return _uncached(render(request, "device.html", {"form": form}, status=400 if form.errors else 200))


def _uncached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
