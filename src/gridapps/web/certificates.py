"""Client certificates on the settings page."""

import base64

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from gridapps.access.errors import NotADeveloper
from gridapps.registry import certificates
from gridapps.registry.certificates import Issued
from gridapps.web.forms import CertificateForm, user_of
from gridapps.web.home import show_settings


@require_POST
@login_required
def issue(request: HttpRequest) -> HttpResponse:
    """Issue a certificate and show it, with a generated key once. The key is not stored."""
    form = CertificateForm(request.POST)
    if not form.is_valid():
        return show_settings(request, certificate_form=form)
    wanted = form.cleaned_data
    try:
        issued = certificates.issue(user=user_of(request), name=wanted["name"], csr=wanted["csr"] or None)
    except (certificates.InvalidCertificateRequest, certificates.TooManyCertificates, NotADeveloper) as error:
        form.add_error(None, str(error))
        return show_settings(request, certificate_form=form)
    answer = render(
        request,
        "certificate.html",
        {
            "issued": issued,
            "authority": settings.GRIDAPPS.authority,
            "downloads": _downloads(issued, wanted["password"]),
        },
    )
    answer["Cache-Control"] = "no-store"
    return answer


@require_POST
@login_required
def revoke(request: HttpRequest, serial: str) -> HttpResponse:
    """Revoke one of the user's certificates at once."""
    user = user_of(request)
    found = certificates.held_by(user).filter(serial=serial).first()
    if found is None:
        raise Http404
    certificates.revoke(by=user, certificate=found)
    messages.success(request, f"The certificate {found.name} has been revoked.")
    return redirect("settings")


def _downloads(issued: Issued, password: str) -> list[tuple[str, str]]:
    """File names and data URLs. The page contains the files, so that the key is not stored here."""
    files = {"certs.d.tar.gz": issued.bundle(), "client.cert": issued.pem.encode()}
    if issued.key is not None:
        files["client.pem"] = (issued.pem + issued.key).encode()
        if password:
            files["client.p12"] = issued.p12(password)
    files["ca.crt"] = issued.ca.encode()
    return [
        (name, f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}")
        for name, data in files.items()
    ]
