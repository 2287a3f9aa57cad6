"""`/developer/certificates`: the client certificates that authorise pushes."""

from datetime import datetime

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Status

from gridapps.access.models import User
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.authentication import user_of
from gridapps.api.native.declared import Serial
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.parsing import not_found
from gridapps.api.native.shapes import Certificate, CertificateRequest, CertificatesAnswer, IssuedAnswer
from gridapps.registry import certificates, models

router = Router(tags=["developer"])


@router.get(
    "/developer/certificates",
    response=reads(ok=CertificatesAnswer),
    operation_id="list_certificates",
    exclude_unset=True,
)
def index(request: HttpRequest, limit: Limit = 100, after: After = None) -> CertificatesAnswer:
    """Your client certificates, newest first, including revoked and expired ones."""
    rows = certificates.held_by(user_of(request))
    found, following = page(request, rows, ("-created_at", "-pk"), limit=limit, after=after)
    now = timezone.now()
    return CertificatesAnswer(certificates=[_shown(each, now) for each in found], **following)


@router.post(
    "/developer/certificates",
    response=writes(409, body=True, status_201=IssuedAnswer),
    operation_id="issue_certificate",
    exclude_unset=True,
)
def issue(request: HttpRequest, body: CertificateRequest) -> Status[IssuedAnswer]:
    """Issue a certificate for the key of a CSR, or for a generated key, which is shown only now."""
    issued = certificates.issue(user=user_of(request), name=body.name, csr=body.csr)
    return Status(
        201,
        IssuedAnswer(
            certificate=_shown(issued.certificate, timezone.now()),
            pem=issued.pem,
            ca=issued.ca,
            authority=settings.GRIDAPPS.authority,
            **({"key": issued.key} if issued.key else {}),
        ),
    )


@router.get(
    "/developer/certificates/{serial}",
    response=reads(404, ok=CertificatesAnswer),
    operation_id="show_certificate",
    exclude_unset=True,
)
def show(request: HttpRequest, serial: Serial) -> CertificatesAnswer:
    """One certificate."""
    found = _own(user_of(request), serial)
    return CertificatesAnswer(certificates=[_shown(found, timezone.now())])


@router.delete(
    "/developer/certificates/{serial}",
    response=writes(404, body=False, status_204=None),
    operation_id="revoke_certificate",
)
def revoke(request: HttpRequest, serial: Serial) -> Status[None]:
    """Revoke a certificate: it authorises nothing from now on. Idempotent."""
    user = user_of(request)
    certificates.revoke(by=user, certificate=_own(user, serial))
    return Status(204, None)


def _own(user: User, serial: str) -> models.Certificate:
    found = certificates.held_by(user).filter(serial=serial).first() if serial.isalnum() else None
    if found is None:
        raise not_found()
    return found


def _shown(certificate: models.Certificate, now: datetime) -> Certificate:
    return Certificate(
        serial=certificate.serial,
        name=certificate.name,
        fingerprint=certificate.fingerprint,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        created_at=certificate.created_at,
        revoked_at=certificate.revoked_at,
        state=(
            "revoked" if certificate.revoked_at else "expired" if certificate.not_after <= now else "valid"
        ),
    )
