"""Deciding whether a request may pass to one of the registries, and with which token.

nginx asks for each request. The certificate alone authorises it; an upload must also fit into its developer's
quota. What the request relies on is touched first, so that housekeeping does not remove it meanwhile.
"""

from dataclasses import dataclass

from gridapps.pki import tokens
from gridapps.pki.tokens import Registry
from gridapps.pushes import disk, permits, quota
from gridapps.pushes.permits import Access, Subject
from gridapps.registry.models import Certificate, NodeCertificate

Holder = Certificate | NodeCertificate


@dataclass(frozen=True, kw_only=True)
class Requested:
    """A request to a registry as nginx describes it."""

    method: str
    uri: str  # raw, as in the request line
    length: int | None  # bytes of its body; None if it does not say


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """How nginx forwards an admitted request."""

    token: str  # for the registry; empty for one that the application itself forwards
    portion: int | None  # the most bytes that a body of unknown length may have


def admit(requested: Requested, *, certificate: Holder) -> Admitted:
    """Admit a request, or raise Denied."""
    access = permits.access_for_request(method=requested.method, uri=requested.uri)
    permits.require_allowed(access, certificate=certificate)
    registry = permits.registry_of(access)
    portion = None
    if registry is Registry.DEVELOPER:
        subject = permits.subject_of(requested.uri)
        _touch(access, subject)
        if subject.begins or (subject.upload and requested.method in ("PATCH", "PUT")):
            assert isinstance(certificate, Certificate), "nodes only pull"
            portion = quota.admit_upload(certificate.user, subject, length=requested.length)
    token = ""
    if any(access.values()):
        token = tokens.registry_token(access, subject=certificate.holder, registry=registry)
    return Admitted(token=token, portion=portion)


def _touch(access: Access, subject: Subject) -> None:
    storage = disk.developers()
    for name in access:
        storage.touch(name, *subject.digests)
    if subject.upload:
        storage.touch_upload(subject.repository, subject.upload)
