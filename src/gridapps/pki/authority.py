"""The instance's certificate authority, its server certificate, and the key that signs registry tokens.

The directory `<data>/authority` contains `ca.crt`, `ca.key`, `server.crt`, `server.key`, `token.crt` and
`token.key`. Only the instance's account can read the private keys.
"""

import fcntl
import functools
import ipaddress
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from django.conf import settings

ORGANIZATION = "GRiD Apps"
AUTHORITY_DAYS = 20 * 365
SERVER_DAYS = 825  # the longest validity that all common clients accept
RENEW_BEFORE = timedelta(days=120)
CLOCK_SKEW = timedelta(minutes=5)  # lets a client whose clock is slow accept a new certificate

Key = ec.EllipticCurvePrivateKey
Pair = tuple[x509.Certificate, Key]


class BrokenAuthority(Exception):
    """The directory contains only one file of a pair, or a file that cannot be read."""


@dataclass(frozen=True)
class Authority:
    """The certificate and the key with which an instance issues certificates."""

    ca: x509.Certificate
    ca_key: Key

    @classmethod
    def create_or_load(cls, directory: Path, *, host: str) -> "Authority":
        """Load the files, and create those that are missing.

        A server certificate that expires soon or does not name `host` is replaced, as is a token certificate
        that expires soon. Raises BrokenAuthority with a message that says what to do.
        """
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        with (directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ca = _load(directory, "ca") or _make(directory, "ca", _new_ca)
            token = _load(directory, "token")
            if token is None or not _lasts(token[0]):
                token = _make(directory, "token", _new_token_certificate)
            authority = cls(*ca)
            server = _load(directory, "server")
            if server is None or not authority._stands_behind(server[0], host):
                _make(directory, "server", lambda: _new_server_certificate(ca, host))
        return authority

    @property
    def ca_pem(self) -> str:
        """The authority's certificate, which clients have to trust."""
        return self.ca.public_bytes(serialization.Encoding.PEM).decode()

    def issue_client(
        self, *, key: CertificatePublicKeyTypes, common_name: str, days: int
    ) -> x509.Certificate:
        """A client certificate for a public key. The caller has checked the key and its holder."""
        builder = _builder(common_name, key, days).issuer_name(self.ca.subject)
        builder = _as_leaf(builder, ExtendedKeyUsageOID.CLIENT_AUTH, self.ca_key)
        return builder.sign(self.ca_key, hashes.SHA256())

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether this authority has signed the certificate."""
        try:
            certificate.verify_directly_issued_by(self.ca)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
            return False
        return True

    def _stands_behind(self, server: x509.Certificate, host: str) -> bool:
        return _lasts(server) and _names(host) <= _named(server) and self.has_issued(server)


@functools.cache
def current() -> Authority:
    """The authority of this instance, read once per process. Only the application's account can read it."""
    return Authority(*_read("ca"))


@functools.cache
def signer() -> Pair:
    """The certificate and the key of registry tokens, read once per process."""
    return _read("token")


def _read(name: str) -> Pair:
    """A pair of this instance, created if it does not exist."""
    directory = settings.DATA / "authority"
    if not (directory / f"{name}.crt").exists():
        Authority.create_or_load(directory, host=settings.GRIDAPPS.host)
    found = _load(directory, name)
    assert found is not None, "it was created"
    return found


def _new_ca() -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # The random part distinguishes the authorities of two instances in a client's list.
    name = f"Instance CA {secrets.token_hex(4)}"
    builder = _builder(name, key.public_key(), AUTHORITY_DAYS).issuer_name(_subject(name))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.sign(key, hashes.SHA256()), key


def _new_token_certificate() -> Pair:
    """A self-signed certificate, the only one in the registries' bundle: they trust exactly this key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"Registry tokens {secrets.token_hex(4)}"
    builder = _builder(name, key.public_key(), AUTHORITY_DAYS).issuer_name(_subject(name))
    return builder.sign(key, hashes.SHA256()), key


def _new_server_certificate(ca: Pair, host: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(host[:64], key.public_key(), SERVER_DAYS).issuer_name(ca[0].subject)
    builder = _as_leaf(builder, ExtendedKeyUsageOID.SERVER_AUTH, ca[1])
    names = [_general_name(name) for name in sorted(_names(host))]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca[1], hashes.SHA256()), key


def _builder(common_name: str, key: CertificatePublicKeyTypes, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(common_name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _as_leaf(
    builder: x509.CertificateBuilder, purpose: ObjectIdentifier, ca_key: Key
) -> x509.CertificateBuilder:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(identifier, critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates,
        crl_sign=signs_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _subject(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _names(host: str) -> set[str]:
    """The names that the server's certificate must have."""
    return {host, "localhost", "127.0.0.1", "::1"}


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _named(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def _lasts(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc - datetime.now(UTC) > RENEW_BEFORE


def _load(directory: Path, name: str) -> Pair | None:
    """The certificate and key of this name, or None if there is no certificate yet."""
    path = directory / f"{name}.crt"
    if not path.exists():
        return None
    advice = f"Restore {directory} from a backup, or move it away: then every certificate is issued anew."
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key((directory / f"{name}.key").read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise BrokenAuthority(f"{name}.crt and {name}.key cannot be used: {error}. {advice}") from error
    if not isinstance(key, Key) or key.public_key() != certificate.public_key():
        raise BrokenAuthority(f"{name}.key does not belong to {name}.crt. {advice}")
    return certificate, key


def _make(directory: Path, name: str, new: Callable[[], Pair]) -> Pair:
    """Create and store a pair. The certificate is written last, because a key alone is ignored."""
    certificate, key = new()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / f"{name}.crt").unlink(missing_ok=True)
    _write(directory / f"{name}.key", private, mode=0o600)
    _write(directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    return certificate, key


def _write(path: Path, content: bytes, *, mode: int) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    new.replace(path)
