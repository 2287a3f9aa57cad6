"""Tokens of the registries, nginx's question about each request to them, and the push of a manifest.

The client certificate arrives in a header that only nginx sets.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods

from gridapps.access.refusals import Refused
from gridapps.api.registry.refusals import refusal
from gridapps.audit import record
from gridapps.oci.manifests import MAX_MANIFEST
from gridapps.pki import tokens
from gridapps.pushes import admission, broken_uploads, permits, pushing, quota
from gridapps.pushes.admission import Holder, Requested
from gridapps.registry import certificates
from gridapps.registry.models import Certificate

View = Callable[..., HttpResponse]
_STATUS = {
    "denied": 401, "insufficient-storage": 507, "manifest-invalid": 400, "too-large": 413, "unavailable": 503,
}  # fmt: skip


def _plainly(view: View) -> View:
    """Map registry errors to responses that docker, podman and skopeo print."""

    @wraps(view)
    def wrapped(request: HttpRequest, **words: str) -> HttpResponse:
        try:
            return view(request, **words)
        except Refused as error:
            status = _STATUS[error.code]
            if status == 401:
                _record(request, error)
            body = refusal(str(error), code=error.code.upper().replace("-", "_"))
        response = JsonResponse(body, status=status)
        if status == 503:
            response["Retry-After"] = "5"
        if status == 401:
            # nginx answers denied requests itself, with the body that this header carries.
            response["X-Refusal"] = json.dumps(body)
        return response

    return wrapped


@require_GET
@_plainly
def token(request: HttpRequest) -> HttpResponse:
    """A token, if the certificate's holder may do what the scopes ask for in every repository.

    Clients require one. It opens only the bare `/v2/`. Every other request is judged by itself and gets its
    own token from `authorize`, so a stolen token is worthless.
    """
    certificate = _holder(request)
    permits.require_allowed(permits.access_for_scopes(request.GET.getlist("scope")), certificate=certificate)
    signed = tokens.registry_token({}, subject=certificate.holder)
    return JsonResponse(
        {
            "token": signed,
            "access_token": signed,
            "expires_in": int(tokens.LIFETIME.total_seconds()),
            "issued_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


@require_GET
@_plainly
def authorize(request: HttpRequest) -> HttpResponse:
    """nginx's question about each request to a registry. The answer carries the registry's token."""
    requested = Requested(
        method=request.headers.get("X-Original-Method", ""),
        uri=request.headers.get("X-Original-URI", ""),
        length=_length(request),
    )
    admitted = admission.admit(requested, certificate=_holder(request))
    # 403 sends nginx to the location whose bodies may have `portion` bytes. Refusals are 401.
    response = HttpResponse(status=204 if admitted.portion is None else 403)
    if admitted.portion is not None:
        response["X-Portion"] = f"@portion_{admitted.portion}"
    if admitted.token:
        response["X-Registry-Authorization"] = f"Bearer {admitted.token}"
    return response


@require_GET
@_plainly
def broken_off(request: HttpRequest) -> HttpResponse:
    """nginx's question about a request that ended before its end: why, for the client. It always refuses."""
    uri = request.headers.get("X-Original-URI", "")
    access = permits.access_for_request(method=request.headers.get("X-Original-Method", ""), uri=uri)
    permits.require_allowed(access, certificate=_holder(request))
    raise broken_uploads.refusal_of(
        permits.subject_of(uri), used_up=request.headers.get("X-Reason", "") == "portion"
    )


@csrf_exempt
@require_http_methods(["PUT"])
@_plainly
def push_manifest(request: HttpRequest, *, name: str, reference: str) -> HttpResponse:
    """A manifest: the last step of a push."""
    certificate = _holder(request)
    access = permits.access_for_request(method="PUT", uri=request.path)
    (app,) = permits.require_allowed(access, certificate=certificate)
    assert isinstance(certificate, Certificate), "nodes only pull"
    # One byte beyond the limit shows that the manifest is too large.
    content = request.read(MAX_MANIFEST + 1)
    quota.require_within(certificate.user, more=len(content))
    digest = pushing.push(
        pushing.Push(
            app=app,
            certificate=certificate,
            reference=reference,
            content=content,
            media_type=(request.content_type or "").lower(),
        )
    )
    response = HttpResponse(status=201)
    response["Location"] = f"/v2/{name}/manifests/{digest}"
    response["Docker-Content-Digest"] = digest
    return response


def _record(request: HttpRequest, error: Refused) -> None:
    """Record the refusal in the audit if the certificate is one of this instance."""
    certificate = certificates.recorded(request.headers.get("X-Client-Certificate", ""))
    if certificate is not None:
        by = certificate.user if isinstance(certificate, Certificate) else f"node:{certificate.node}"
        # Only the requests of nginx have this header from nginx. In others the client could set it.
        is_question = request.path == reverse(authorize)
        asked = request.headers.get("X-Original-URI", "") if is_question else request.path
        record.refused(
            by=by,
            subject=f"certificate:{certificate.serial}",
            code=error.code,
            sentence=str(error),
            asked=asked.partition("?")[0],
        )


def _length(request: HttpRequest) -> int | None:
    """Bytes of the original request's body; None if the request does not say."""
    length = request.headers.get("X-Original-Length", "")
    if request.headers.get("X-Original-Transfer-Encoding") or not re.fullmatch(r"[0-9]{0,18}", length):
        return None
    return int(length or 0)


def _holder(request: HttpRequest) -> Holder:
    return certificates.presented_by(request.headers.get("X-Client-Certificate", ""))
