"""Signatures in cosign's simple signing format: which release one signs, and with which known key.

Known keys are the operator's PEM files in GRIDAPPS_SIGNATURE_KEYS. They are read anew each time, so that
removing a key takes effect at once. Certificates and logs that accompany a signature are ignored.
Source: cosign's signature specification. docs/decisions/0074-supply-chain.md has the reasons.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from gridapps.oci.documents import Invalid, read_document

MAX_PAYLOAD = 16 * 1024  # bytes
MAX_SIGNATURE = 4096  # characters of base64
COSIGN = "cosign container image signature"
SUFFIXES = (".pub", ".pem")
LEAST_RSA = 2048  # bits
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# Raises InvalidSignature unless the first argument is a signature of the second.
Verify = Callable[[bytes, bytes], None]


class UnusableKeys(Exception):
    """The operator's keys cannot be read. The message says which, and why."""


def load_keys(location: str) -> Mapping[str, Verify]:
    """The keys in a directory or file, by name; none if `location` is empty. Raises UnusableKeys."""
    if not location:
        return {}
    path = Path(location)
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [file for file in files if file.suffix in SUFFIXES and not file.name.startswith(".")]
        found = {file.stem: _key(file) for file in files}
    except OSError as error:
        raise UnusableKeys(f"{error.filename or path} cannot be read: {error.strerror}.") from None
    if not found:
        raise UnusableKeys(f"{path} contains no public key: a file that ends with {' or '.join(SUFFIXES)}.")
    if len(found) < len(files):
        raise UnusableKeys(f"{path} contains two keys of one name.")
    return found


def require_signature_of(release: str, payload: bytes, signature: str) -> None:
    """Raise Invalid unless the payload, as cosign writes it, says that the release was signed.

    Only the digest in it counts. The reference is where the signer found the image, which may be another
    registry, or another name of this instance.
    """
    decoded(signature)
    if len(payload) > MAX_PAYLOAD:
        raise Invalid(f"The signature's payload is larger than {MAX_PAYLOAD} bytes.")
    document = read_document(payload, what="The signature's payload").knowing(("critical", "optional"))
    critical = document.document("critical").knowing(("identity", "image", "type"))
    digest = critical.document("image").knowing(("docker-manifest-digest",)).get("docker-manifest-digest")
    if critical.get("type") != COSIGN:
        raise Invalid(f"The signature's payload is not of the type {COSIGN!r}.")
    if digest != release:
        raise Invalid(f"The signature is of {str(digest)[:80]!r}, not over {release}.")


def signing_key(payload: bytes, signature: str, *, keys: Mapping[str, Verify]) -> str:
    """The name of the known key that made the signature; empty if none did."""
    for name, verify in keys.items():
        try:
            verify(decoded(signature), payload)
        except (InvalidSignature, Invalid, ValueError):
            continue
        return name
    return ""


def decoded(signature: str) -> bytes:
    """The bytes of a signature. Raises Invalid."""
    try:
        if len(signature) > MAX_SIGNATURE:
            raise ValueError
        return base64.b64decode(signature, validate=True)
    except (ValueError, binascii.Error):
        raise Invalid("The signature is not base64, or too long.") from None


def _key(path: Path) -> Verify:
    if not _NAME.fullmatch(path.stem):
        raise UnusableKeys(f"{path} has an invalid name: rename it to letters, digits, '.-_'.")
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKeys(f"{path} is not a public key in PEM.") from None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return lambda signature, payload: key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= LEAST_RSA:
        return lambda signature, payload: key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.verify
    raise UnusableKeys(
        f"{path} is of an unsupported kind:  ECDSA on a NIST curve, RSA of {LEAST_RSA} bits, Ed25519."
    )
