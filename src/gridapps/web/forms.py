"""The forms of the pages. They declare fields; operations validate the values."""

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from gridapps.access.applications import Kind
from gridapps.access.models import User
from gridapps.access.scopes import DEFAULT, SCOPES
from gridapps.audit import context
from gridapps.hooks import targets
from gridapps.hooks.events import OFFERED, Event


def user_of(request: HttpRequest) -> User:
    """The user who is logged in."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    context.add(user=request.user.pk)
    return request.user


class DeveloperForm(forms.Form):
    """A request to become a developer."""

    statement = forms.CharField(
        label="What do you want to build?", max_length=4000, widget=forms.Textarea(attrs={"rows": 3})
    )


class CertificateForm(forms.Form):
    """A new client certificate."""

    name = forms.CharField(max_length=100, help_text="For example the machine that will use it.")
    csr = forms.CharField(
        label="Certificate signing request",
        required=False,
        max_length=16_384,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text="PEM. Without one, the instance generates a key and shows it once.",
    )
    password = forms.CharField(
        label="Password for PKCS#12",
        required=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Only needed for a generated key as a .p12 file.",
    )


class HookForm(forms.Form):
    """A new hook."""

    target = forms.CharField(
        max_length=targets.LONGEST,
        widget=forms.URLInput(attrs={"placeholder": "https://example.org/hook"}),
        help_text="The URL that events are POSTed to.",
    )
    events = forms.MultipleChoiceField(
        choices=[(event.value, event.value) for event in OFFERED],
        initial=[Event.RUN_COMPLETE.value],
        widget=forms.SelectMultiple(attrs={"size": len(OFFERED)}),
    )


class ApplicationForm(forms.Form):
    """A new OAuth application."""

    app_name = forms.CharField(label="Name", max_length=100)
    kind = forms.ChoiceField(
        choices=[
            (Kind.PUBLIC, "Asks users; cannot keep a secret (desktop, browser)"),
            (Kind.CONFIDENTIAL, "Asks users; keeps a secret on a server"),
            (Kind.MACHINE, "Acts as me without asking (client credentials)"),
        ]
    )
    redirect_uris = forms.CharField(
        label="Redirect addresses",
        required=False,
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="One per line; none for an application that acts as you.",
    )
    scopes = forms.MultipleChoiceField(
        label="Allowed scopes",
        choices=list(SCOPES.items()),
        initial=DEFAULT,
        widget=forms.CheckboxSelectMultiple,
    )
