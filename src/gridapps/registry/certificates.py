"""Client certificates of developers: issue, hand over, revoke; and judge what a client presented."""

import io
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12 as p12
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.access.refusals import Refused
from gridapps.audit import record
from gridapps.pki import authority
from gridapps.registry.models import Certificate, NodeCertificate

MAX_LIVE = 50  # certificates of one developer that are neither expired nor revoked
MAX_NAME = 100  # characters
MAX_PEM = 16 * 1024  # bytes of a request or certificate; an RSA key of 8192 bits needs 3 KiB
RSA_BITS = range(2048, 8193)  # beyond it, every look at the certificate would cost noticeable time


class InvalidCertificateRequest(Refused):
    """The certificate cannot be issued as asked. `pointer` names the faulty field: /name or /csr."""

    code = "invalid-request"

    def __init__(self, message: str, pointer: str) -> None:
        super().__init__(message, [(pointer, message)])


class TooManyCertificates(Refused):
    """The developer holds as many live certificates as the instance allows."""

    code = "conflict"


class NotTrusted(Exception):
    """The presented certificate authorises nothing. The message is for the developer's terminal."""


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A fresh certificate and what belongs to it. This is the only moment when `key` is known here."""

    certificate: Certificate
    pem: str
    key: str | None  # PKCS#8 PEM; None when the developer kept the key and sent a CSR
    ca: str


def held_by(user: User) -> QuerySet[Certificate]:
    """Every certificate that the user was ever issued, newest first."""
    return Certificate.objects.filter(user=user)


def issue(*, user: User, name: str, csr: str | None = None) -> Issued:
    """Issue a certificate to a verified developer, for the key of a PEM CSR or for a generated one.

    Of the CSR only the key counts: the subject is ours. Raises NotADeveloper, InvalidCertificateRequest,
    TooManyCertificates.
    """
    permissions.require_developer(user)
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise InvalidCertificateRequest(
            f"A certificate's name is one line of 1 to {MAX_NAME} characters.", "/name"
        )
    key = ec.generate_private_key(ec.SECP256R1()) if csr is None else None
    public = key.public_key() if key is not None else _requested_key(csr or "")
    ours = authority.current()
    made = ours.issue_client(
        key=public, common_name=user.username[:64], days=settings.GRIDAPPS.certificate_days
    )
    return Issued(
        certificate=_record(user=user, name=name, made=made),
        pem=made.public_bytes(serialization.Encoding.PEM).decode(),
        key=private_pem(key) if key is not None else None,
        ca=ours.ca_pem,
    )


def revoke(*, by: User, certificate: Certificate) -> None:
    """Revoke it: from now on it authorises nothing, also in a push that is under way. Idempotent."""
    live = Certificate.objects.filter(pk=certificate.pk, revoked_at__isnull=True)
    with transaction.atomic():
        if live.update(revoked_at=timezone.now()):
            record.certificate_revoked(by=by, certificate=certificate.serial, holder=certificate.user)
    certificate.refresh_from_db(fields=["revoked_at"])


def pkcs12(*, issued: Issued, password: str) -> bytes:
    """Certificate, generated key and CA as PKCS#12, locked with the password. ValueError without a key."""
    if issued.key is None or not password:
        raise ValueError("PKCS#12 needs a generated key and a password.")
    key = serialization.load_pem_private_key(issued.key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return p12.serialize_key_and_certificates(
        issued.certificate.name.encode(),
        key,
        x509.load_pem_x509_certificate(issued.pem.encode()),
        [x509.load_pem_x509_certificate(issued.ca.encode())],
        serialization.BestAvailableEncryption(password.encode()),
    )


def bundle(*, issued: Issued) -> bytes:
    """A tarball (gzip) to unpack in the container engine's certs.d directory.

    It holds `HOST:PORT/ca.crt`, `client.cert` and, where the key was generated here, `client.key`.
    """
    files = {"ca.crt": (issued.ca, 0o644), "client.cert": (issued.pem, 0o644)}
    if issued.key is not None:
        files["client.key"] = (issued.key, 0o600)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file_name, (text, mode) in files.items():
            entry = tarfile.TarInfo(f"{settings.GRIDAPPS.authority}/{file_name}")
            entry.size, entry.mode = len(text.encode()), mode
            entry.mtime = int(issued.certificate.created_at.timestamp())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def presented_by(presented: str) -> Certificate | NodeCertificate:
    """The record of the certificate that a developer or a node presented, judged at this moment.

    `presented` is PEM, percent-encoded as nginx hands it on; empty when the client sent none. Possession of
    the key was proved in the TLS handshake. Raises NotTrusted.
    """
    if not presented:
        raise NotTrusted(
            "No client certificate of this instance arrived. Create one in your application settings and put "
            f"client.cert and client.key into your engine's directory certs.d/{settings.GRIDAPPS.authority}."
        )
    found = _parsed(presented)
    if not authority.current().has_issued(found):
        raise NotTrusted("The client certificate was not issued by this instance.")
    record = _recorded(found)
    if record is None:
        raise NotTrusted("The client certificate is not known to this instance.")
    if record.revoked_at is not None:
        raise NotTrusted(
            f"The client certificate {record.name!r} was revoked on {record.revoked_at:%Y-%m-%d}."
        )
    if not found.not_valid_before_utc <= datetime.now(UTC) < found.not_valid_after_utc:
        raise NotTrusted(
            f"The client certificate {record.name!r} has expired or is not valid yet: it holds from "
            f"{record.not_before:%Y-%m-%d} to {record.not_after:%Y-%m-%d}. Create a new one."
        )
    if isinstance(record, Certificate) and not permissions.is_developer(record.user):
        raise NotTrusted(f"{record.user.username} is not a verified developer of this instance.")
    return record


def known(presented: str) -> Certificate | NodeCertificate | None:
    """The record of a certificate that was presented, whether it is good or not; None when there is none."""
    try:
        found = _parsed(presented)
    except NotTrusted:
        return None
    return _recorded(found) if authority.current().has_issued(found) else None


def _recorded(found: x509.Certificate) -> Certificate | NodeCertificate | None:
    named = {"fingerprint": fingerprint(found), "serial": serial(found)}
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
        issued = Certificate.objects.create(user=user, name=name, **facts(made))
        record.certificate_issued(by=user, certificate=issued.serial, holder=user)
        return issued


def facts(made: x509.Certificate) -> dict[str, Any]:
    """What is kept of a certificate that was issued."""
    return {
        "serial": serial(made),
        "fingerprint": fingerprint(made),
        "not_before": made.not_valid_before_utc,
        "not_after": made.not_valid_after_utc,
    }


def serial(certificate: x509.Certificate) -> str:
    """As it is stored: hexadecimal, lower case."""
    return f"{certificate.serial_number:x}"


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER, hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _parsed(presented: str) -> x509.Certificate:
    try:
        pem = unquote_to_bytes(presented)
        if len(pem) > MAX_PEM:
            raise ValueError("too large")
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise NotTrusted("The client certificate cannot be read.") from None


def _requested_key(csr: str) -> CertificatePublicKeyTypes:
    """The key of a CSR whose sender holds it."""
    if len(csr) > MAX_PEM:
        raise InvalidCertificateRequest(f"The CSR is larger than {MAX_PEM} bytes.", "/csr")
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidCertificateRequest("The CSR is not a PEM certificate signing request.", "/csr") from None
    if not _is_strong(key):  # before its signature is checked: a giant key makes that slow
        raise InvalidCertificateRequest(
            "The CSR's key must be RSA of 2048 to 8192 bits, EC P-256 or P-384, or Ed25519.", "/csr"
        )
    try:
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        valid = False
    if not valid:
        raise InvalidCertificateRequest("The CSR is not signed with its own key.", "/csr")
    return key


def _is_strong(key: CertificatePublicKeyTypes) -> bool:
    match key:
        case rsa.RSAPublicKey():
            return key.key_size in RSA_BITS and 65537 <= key.public_numbers().e < 2**32
        case ec.EllipticCurvePublicKey():
            return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
        case ed25519.Ed25519PublicKey():
            return True
    return False


def private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A key as PKCS#8 PEM, not locked."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
