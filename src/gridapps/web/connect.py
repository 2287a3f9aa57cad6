"""The page *Connect*: password, personal tokens, the instance's certificate authority, and the client."""

import hashlib
import ssl

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from gridapps.access import operations, personal_tokens
from gridapps.access.errors import InvalidToken, InvalidUser
from gridapps.access.scopes import ADMIN, DEFAULT, SCOPES
from gridapps.audit import record
from gridapps.pki.authority import current
from gridapps.registry import certificates
from gridapps.web.client_wheel import wheel
from gridapps.web.forms import user_of


class TokenForm(forms.Form):
    """A new personal token."""

    name = forms.CharField(
        max_length=personal_tokens.MAX_NAME, help_text="For example the program or machine."
    )
    days = forms.IntegerField(
        label="Valid for days", min_value=1, max_value=personal_tokens.MAX_DAYS, initial=30
    )
    scopes = forms.MultipleChoiceField(
        label="The token may",
        choices=list(SCOPES.items()),
        initial=DEFAULT,
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, *args: object, administrator: bool, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        choices = [(scope, text) for scope, text in SCOPES.items() if administrator or scope != ADMIN]
        self.fields["scopes"].choices = choices  # type: ignore[attr-defined]


class PasswordForm(forms.Form):
    """The present password and a new one, twice."""

    old = forms.CharField(
        label="Present password",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    new = forms.CharField(
        label="New password",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    again = forms.CharField(
        label="New password, again",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


@require_GET
@login_required
def show(request: HttpRequest) -> HttpResponse:
    """The page."""
    return _page(request)


@sensitive_post_parameters()
@require_POST
@login_required
def change_password(request: HttpRequest) -> HttpResponse:
    """Change the user's own password. Other sessions end."""
    user = user_of(request)
    form = PasswordForm(request.POST)
    if form.is_valid() and not user.check_password(form.cleaned_data["old"]):
        record.user_login_failed(user=user)
        form.add_error("old", "This is not your present password.")
    if form.is_valid() and form.cleaned_data["new"] != form.cleaned_data["again"]:
        form.add_error("again", "The two new passwords differ.")
    if form.is_valid():
        try:
            operations.change_password(by=user, user=user, password=form.cleaned_data["new"])
        except InvalidUser as error:
            form.add_error("new", str(error))
    if not form.is_valid():
        return _page(request, password_form=form)
    update_session_auth_hash(request, user)
    messages.success(request, "Your password has been changed, and your other sessions have ended.")
    return redirect("connect")


@require_POST
@login_required
def create_token(request: HttpRequest) -> HttpResponse:
    """Make a personal token and show it once."""
    user = user_of(request)
    form = TokenForm(request.POST, administrator=user.is_administrator)
    if not form.is_valid():
        return _page(request, token_form=form)
    wanted = form.cleaned_data
    try:
        token = personal_tokens.create(
            by=user, name=wanted["name"], days=wanted["days"], scopes=wanted["scopes"]
        )
    except InvalidToken as error:
        form.add_error(None, str(error))
        return _page(request, token_form=form)
    answer = render(request, "token.html", {"token": token, "name": wanted["name"], "origin": _origin()})
    answer["Cache-Control"] = "no-store"
    return answer


@require_POST
@login_required
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    """Revoke one of the user's tokens at once."""
    if pk >= 2**63 or not personal_tokens.revoke(by=user_of(request), pk=pk):
        raise Http404
    messages.success(request, "The token has been revoked.")
    return redirect("connect")


@require_GET
def authority(_: HttpRequest) -> HttpResponse:
    """The certificate of the instance's authority, for everyone: it is in each TLS handshake."""
    return HttpResponse(_authority(), content_type="application/x-pem-file")


@require_GET
def client(_: HttpRequest, name: str) -> HttpResponse:
    """The client's wheel, for everyone: it is free software and contains nothing of the instance."""
    found = wheel()
    if found is None or name != found.name:
        raise Http404
    return HttpResponse(found.content, content_type="application/octet-stream")


def _page(request: HttpRequest, **filled: forms.Form) -> HttpResponse:
    user = user_of(request)
    pem = _authority()
    der = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    context = {
        "tokens": personal_tokens.held_by(user),
        "token_form": TokenForm(administrator=user.is_administrator),
        "password_form": PasswordForm(),
        "certificates": certificates.held_by(user).filter(revoked_at__isnull=True),
        "origin": _origin(),
        "wheel": wheel(),
        "authority_sum": hashlib.sha256(pem.encode()).hexdigest(),
        "fingerprint": ":".join(der[place : place + 2] for place in range(0, len(der), 2)),
        **filled,
    }
    return render(request, "connect.html", context, status=400 if filled else 200)


def _origin() -> str:
    return settings.GRIDAPPS.origin


def _authority() -> str:
    return current().ca_pem
