"""Client certificates of developers: issue and revoke them, and judge those that clients present."""

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from cryptography import x509
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.access.names import is_line
from gridapps.access.refusals import Refused
from gridapps.audit import record
from gridapps.pki import authority, credentials
from gridapps.pki.credentials import Credentials, InvalidSigningRequest, issue_credentials
from gridapps.registry.models import Certificate, NodeCertificate

MAX_LIVE = 50  # certificates of one developer that are neither expired nor revoked
MAX_NAME = 100  # characters


class InvalidCertificateRequest(Refused):
    """The certificate cannot be issued as requested. `pointer` names the faulty field: /name or /csr."""

    code = "invalid-request"

    def __init__(self, message: str, pointer: str) -> None:
        super().__init__(message, [(pointer, message)])


class TooManyCertificates(Refused):
    """The developer holds as many live certificates as the instance allows."""

    code = "conflict"


class NotTrusted(Refused):
    """The presented certificate authorises nothing. The message is shown in the developer's terminal."""

    code = "denied"


@dataclass(frozen=True, kw_only=True)
class Issued(Credentials):
    """A new certificate of a developer."""

    certificate: Certificate

    def p12(self, password: str) -> bytes:
        """The credentials as PKCS#12. Raises ValueError without a generated key or a password."""
        return self.pkcs12(name=self.certificate.name, password=password)

    def bundle(self) -> bytes:
        """A tarball (gzip) to unpack in the container engine's certs.d directory."""
        created = int(self.certificate.created_at.timestamp())
        return self.tarball(settings.GRIDAPPS.authority, time=created)


def held_by(user: User) -> QuerySet[Certificate]:
    """All certificates that were ever issued to the user, newest first."""
    return Certificate.objects.filter(user=user)


def issue(*, user: User, name: str, csr: str | None = None) -> Issued:
    """Issue a certificate to a verified developer, for the key of a PEM CSR or for a generated one.

    Only the key of the CSR is used; the instance sets the subject. Raises NotADeveloper,
    InvalidCertificateRequest, TooManyCertificates.
    """
    permissions.require_developer(user)
    name = name.strip()
    if not is_line(name, longest=MAX_NAME):
        raise InvalidCertificateRequest(
            f"A certificate's name is one line of 1 to {MAX_NAME} characters.", "/name"
        )
    try:
        key = None if csr is None else credentials.requested_key(csr)
    except InvalidSigningRequest as error:
        raise InvalidCertificateRequest(str(error), "/csr") from None
    days = settings.GRIDAPPS.certificate_days
    made, held = issue_credentials(common_name=user.username, days=days, key=key)
    return Issued(
        certificate=_record(user=user, name=name, made=made), pem=held.pem, key=held.key, ca=held.ca
    )


def revoke(*, by: User, certificate: Certificate) -> None:
    """Revoke a certificate. From now on it authorises nothing, not even the rest of a push. Idempotent."""
    live = Certificate.objects.filter(pk=certificate.pk, revoked_at__isnull=True)
    with transaction.atomic():
        if live.update(revoked_at=timezone.now()):
            record.certificate_revoked(by=by, certificate=certificate.serial, holder=certificate.user)
    certificate.refresh_from_db(fields=["revoked_at"])


def presented_by(presented: str) -> Certificate | NodeCertificate:
    """The record of the certificate that a developer or a node presented, if it is valid now.

    `presented` is PEM, percent-encoded as nginx passes it on; empty if the client sent none. The TLS
    handshake has proved possession of the key. Raises NotTrusted.
    """
    if not presented:
        raise NotTrusted(
            "The request has no client certificate of this instance. Create one in your application "
            "settings, and put client.cert and client.key into your engine's directory "
            f"certs.d/{settings.GRIDAPPS.authority}."
        )
    found = _parsed(presented)
    if not authority.current().has_issued(found):
        raise NotTrusted("The client certificate was not issued by this instance.")
    row = _recorded(found)
    if row is None:
        raise NotTrusted("The client certificate is not known to this instance.")
    if row.revoked_at is not None:
        raise NotTrusted(f"The client certificate {row.name!r} was revoked on {row.revoked_at:%Y-%m-%d}.")
    if not found.not_valid_before_utc <= datetime.now(UTC) < found.not_valid_after_utc:
        raise NotTrusted(
            f"The client certificate {row.name!r} has expired or is not valid yet: it is valid from "
            f"{row.not_before:%Y-%m-%d} to {row.not_after:%Y-%m-%d}. Create a new one."
        )
    if isinstance(row, Certificate) and not permissions.is_developer(row.user):
        raise NotTrusted(f"{row.user.username} is not a verified developer of this instance.")
    return row


def recorded(presented: str) -> Certificate | NodeCertificate | None:
    """The record of a presented certificate, whether it is valid or not; None if there is none."""
    try:
        found = _parsed(presented)
    except NotTrusted:
        return None
    return _recorded(found) if authority.current().has_issued(found) else None


def _recorded(found: x509.Certificate) -> Certificate | NodeCertificate | None:
    named = {"fingerprint": credentials.fingerprint_of(found), "serial": credentials.serial_of(found)}
    return (
        Certificate.objects.select_related("user").filter(**named).first()
        or NodeCertificate.objects.filter(**named).first()
    )


def _record(*, user: User, name: str, made: x509.Certificate) -> Certificate:
    now = timezone.now()
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # two requests at once count one after the other
        if held_by(user).filter(revoked_at__isnull=True, not_after__gt=now).count() >= MAX_LIVE:
            raise TooManyCertificates(
                f"You hold {MAX_LIVE} valid certificates; revoke one that is not in use."
            )
        issued = Certificate.objects.create(user=user, name=name, **credentials.facts_of(made))
        record.certificate_issued(by=user, certificate=issued.serial, holder=user)
        return issued


def _parsed(presented: str) -> x509.Certificate:
    try:
        return credentials.parse_certificate(unquote_to_bytes(presented))
    except ValueError:
        raise NotTrusted("The client certificate cannot be read.") from None
