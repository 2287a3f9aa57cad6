"""Client certificates and their keys, as text and as files for browsers, clients and container engines."""

import io
import tarfile
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12

from gridapps.pki import authority

MAX_PEM = 16 * 1024  # bytes of a request or certificate; an RSA key of 8192 bits needs 3 KiB
RSA_BITS = range(2048, 8193)  # larger keys would make every check of the certificate slow


class InvalidSigningRequest(ValueError):
    """No certificate can be issued for this signing request. The message says why."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A new client certificate and what belongs to it, as PEM. The key is stored nowhere else."""

    pem: str
    key: str | None  # PKCS#8; None when the holder kept the key and sent a signing request
    ca: str

    def files(self) -> dict[str, str]:
        """The files that container engines and curl expect, by name."""
        files = {"ca.crt": self.ca, "client.cert": self.pem}
        return files if self.key is None else {**files, "client.key": self.key}

    def pkcs12(self, *, name: str, password: str) -> bytes:
        """Certificate, generated key and CA as PKCS#12, encrypted with the password.

        Raises ValueError without a key or a password.
        """
        if self.key is None or not password:
            raise ValueError("PKCS#12 needs a generated key and a password.")
        key = serialization.load_pem_private_key(self.key.encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return pkcs12.serialize_key_and_certificates(
            name.encode(),
            key,
            x509.load_pem_x509_certificate(self.pem.encode()),
            [x509.load_pem_x509_certificate(self.ca.encode())],
            serialization.BestAvailableEncryption(password.encode()),
        )

    def tarball(self, directory: str, *, time: int) -> bytes:
        """The files in a directory, as a gzip tarball to unpack in an engine's certs.d.

        `time`: seconds since the epoch, of all files.
        """
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, text in self.files().items():
                entry = tarfile.TarInfo(f"{directory}/{name}")
                entry.size, entry.mtime = len(text.encode()), time
                entry.mode = 0o600 if name == "client.key" else 0o644
                tar.addfile(entry, io.BytesIO(text.encode()))
        return buffer.getvalue()


def issue_credentials(
    *, common_name: str, days: int, key: CertificatePublicKeyTypes | None = None
) -> tuple[x509.Certificate, Credentials]:
    """Issue a client certificate for a public key, or for a key that is generated."""
    generated = ec.generate_private_key(ec.SECP256R1()) if key is None else None
    public = generated.public_key() if generated is not None else key
    assert public is not None
    ours = authority.current()
    certificate = ours.issue_client(key=public, common_name=common_name[:64], days=days)
    return certificate, Credentials(
        pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key=_private_pem(generated) if generated is not None else None,
        ca=ours.ca_pem,
    )


def requested_key(csr: str) -> CertificatePublicKeyTypes:
    """The key of a PEM signing request that is signed with it. Raises InvalidSigningRequest."""
    if len(csr) > MAX_PEM:
        raise InvalidSigningRequest(f"The CSR is larger than {MAX_PEM} bytes.")
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidSigningRequest("The CSR is not a PEM certificate signing request.") from None
    if not _is_strong(key):  # before its signature is checked, which a giant key makes slow
        raise InvalidSigningRequest(
            "The CSR's key must be RSA of 2048 to 8192 bits, EC P-256 or P-384, or Ed25519."
        )
    try:
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        valid = False
    if not valid:
        raise InvalidSigningRequest("The CSR is not signed with its own key.")
    return key


def parse_certificate(pem: bytes) -> x509.Certificate:
    """Raises ValueError."""
    if len(pem) > MAX_PEM:
        raise ValueError("too large")
    return x509.load_pem_x509_certificate(pem)


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number in lower-case hexadecimal."""
    return f"{certificate.serial_number:x}"


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def facts_of(certificate: x509.Certificate) -> dict[str, Any]:
    """What is recorded of an issued certificate."""
    return {
        "serial": serial_of(certificate),
        "fingerprint": fingerprint_of(certificate),
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
    }


def _is_strong(key: CertificatePublicKeyTypes) -> bool:
    match key:
        case rsa.RSAPublicKey():
            return key.key_size in RSA_BITS and 65537 <= key.public_numbers().e < 2**32
        case ec.EllipticCurvePublicKey():
            return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
        case ed25519.Ed25519PublicKey():
            return True
    return False


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
