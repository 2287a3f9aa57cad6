"""Tokens, the judgement on each request to the developer registry, and the push of a manifest.

The client certificate comes in a header that nginx alone sets.
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

from gridapps.api.registry.refusals import refusal
from gridapps.audit import record
from gridapps.oci.documents import Invalid
from gridapps.oci.manifests import MAX_MANIFEST
from gridapps.pki import tokens
from gridapps.pki.tokens import Registry
from gridapps.pushes import disk, permits
from gridapps.pushes import pushing as pushes
from gridapps.pushes import quota as room
from gridapps.pushes.permits import Access, Denied
from gridapps.pushes.registry_client import Unavailable
from gridapps.registry import certificates
from gridapps.registry.certificates import NotTrusted
from gridapps.registry.models import Certificate, NodeCertificate

View = Callable[..., HttpResponse]


def _plainly(view: View) -> View:
    """Map registry errors to responses that docker, podman and skopeo print."""

    @wraps(view)
    def wrapped(request: HttpRequest, **words: str) -> HttpResponse:
        try:
            return view(request, **words)
        except (NotTrusted, Denied) as error:
            body, status = refusal(str(error)), 401
            _record(request, error)
        except Invalid as error:
            body, status = refusal(str(error), code="MANIFEST_INVALID"), 400
        except Unavailable as error:
            body, status = refusal(str(error), code="UNAVAILABLE"), 503
        response = JsonResponse(body, status=status)
        if status == 401:
            # nginx answers for the registry when a request was denied; it gets the body in a header.
            response["X-Refusal"] = json.dumps(body)
        return response

    return wrapped


@require_GET
@_plainly
def token(request: HttpRequest) -> HttpResponse:
    """A token, if the certificate's holder may do in every repository what the scopes ask for.

    Clients do not go on without one. It opens nothing but the bare `/v2/`: every other request is judged by
    itself and gets its own token from `authorize`, so that a token that got lost is worth nothing.
    """
    certificate = _holder(request)
    permits.check(permits.of_scopes(request.GET.getlist("scope")), certificate=certificate)
    signed = tokens.token({}, subject=certificate.holder)
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
    """nginx's question for each request to the registry; the answer carries the registry's token."""
    certificate = _holder(request)
    access = permits.of_request(
        method=request.headers.get("X-Original-Method", ""), uri=request.headers.get("X-Original-URI", "")
    )
    permits.check(access, certificate=certificate)
    portion = _note_and_admit(request, access, certificate)
    # 403 takes nginx to the location where a body may have `portion` bytes; refusals are 401.
    response = HttpResponse(status=204 if portion is None else 403)
    if portion is not None:
        response["X-Portion"] = f"@portion_{portion}"
    if any(access.values()):
        signed = tokens.token(access, subject=certificate.holder, registry=permits.registry_of(access))
        response["X-Registry-Authorization"] = f"Bearer {signed}"
    return response


@csrf_exempt
@require_http_methods(["PUT"])
@_plainly
def push_manifest(request: HttpRequest, *, name: str, reference: str) -> HttpResponse:
    """A manifest: the last step of a push."""
    certificate = _holder(request)
    access = permits.of_request(method="PUT", uri=request.path)
    (app,) = permits.check(access, certificate=certificate)
    assert isinstance(certificate, Certificate), "no other pushes"
    # One byte more than is taken shows that there is more.
    content = request.read(MAX_MANIFEST + 1)
    room.check(certificate.user, more=len(content))
    digest = pushes.push(
        pushes.Push(
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


def _record(request: HttpRequest, error: NotTrusted | Denied) -> None:
    """Tell the audit of it, if the certificate is one of ours: strangers only get into the log."""
    certificate = certificates.known(request.headers.get("X-Client-Certificate", ""))
    if certificate is not None:
        by = certificate.user if isinstance(certificate, Certificate) else f"node:{certificate.node}"
        # Only nginx's question has the header from nginx: elsewhere it would be the client's.
        asks = request.path == reverse(authorize)
        asked = (request.headers.get("X-Original-URI", "") if asks else request.path).partition("?")[0]
        record.refused(
            by=by,
            subject=f"certificate:{certificate.serial}",
            code="denied",
            sentence=str(error),
            asked=asked,
        )


def _note_and_admit(
    request: HttpRequest, access: Access, certificate: Certificate | NodeCertificate
) -> int | None:
    """Keep what the request relies on from the housekeeping, and hold an upload against the limit.

    The most bytes that its body may have where that is not known. Raises Denied.
    """
    if permits.registry_of(access) is not Registry.DEVELOPER:
        return None
    subject = permits.subject_of(request.headers.get("X-Original-URI", ""))
    there = disk.developers()
    for name in access:
        there.touch(name, *subject.digests)
    if subject.upload:
        there.touch_upload(subject.repository, subject.upload)
    adds = subject.begins or (subject.upload and request.headers.get("X-Original-Method") in ("PATCH", "PUT"))
    if not adds:
        return None
    assert isinstance(certificate, Certificate), "no other pushes"
    return room.admit(certificate.user, subject, length=_length(request))


def _length(request: HttpRequest) -> int | None:
    """Bytes of the original request's body; None when it does not tell."""
    length = request.headers.get("X-Original-Length", "")
    if request.headers.get("X-Original-Transfer-Encoding") or not re.fullmatch(r"[0-9]{0,18}", length):
        return None
    return int(length or 0)


def _holder(request: HttpRequest) -> Certificate | NodeCertificate:
    return certificates.presented_by(request.headers.get("X-Client-Certificate", ""))
