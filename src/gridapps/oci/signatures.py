"""Signatures of images: with which known key one was made, and what cosign's simple signing format is over.

Known keys are the operator's PEM files in GRIDAPPS_SIGNATURE_KEYS. They are read anew each time, so that
removing a key takes effect at once. Certificates and logs that accompany a signature are ignored.
Source: cosign's signature specification. docs/decisions/0074-supply-chain.md has the reasons.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
# The hashes that signatures may use. cosign 3 chooses by the size of the curve; older versions use SHA-256.
_CURVES: Mapping[str, Sequence[hashes.HashAlgorithm]] = {
    "secp256r1": [hashes.SHA256()],
    "secp384r1": [hashes.SHA384(), hashes.SHA256()],
    "secp521r1": [hashes.SHA512(), hashes.SHA256()],
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# Raises InvalidSignature unless the first argument is a signature of the second.
Verify = Callable[[bytes, bytes], None]


@dataclass(frozen=True)
class Signed:
    """What was signed, and the signature in base64."""

    message: bytes
    signature: str


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


def signed_payload(payload: bytes, signature: str, *, subject: str) -> Signed:
    """What was signed, if the payload is cosign's for the image with the digest `subject`. Raises Invalid.

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
    if digest != subject:
        raise Invalid(f"The signature is of {str(digest)[:80]!r}, not over {subject}.")
    return Signed(payload, signature)


def signing_key(signed: Signed, *, keys: Mapping[str, Verify]) -> str:
    """The name of the known key that made the signature; empty if none did."""
    for name, verify in keys.items():
        try:
            verify(decoded(signed.signature), signed.message)
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
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _with_ecdsa(key, _CURVES[key.curve.name])
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= LEAST_RSA:
        return lambda signature, payload: key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.verify
    raise UnusableKeys(
        f"{path} is of an unsupported kind: use ECDSA on a NIST curve, RSA of {LEAST_RSA} bits, or Ed25519."
    )


def _with_ecdsa(key: ec.EllipticCurvePublicKey, allowed: Sequence[hashes.HashAlgorithm]) -> Verify:
    def verify(signature: bytes, message: bytes) -> None:
        for algorithm in allowed:
            with suppress(InvalidSignature):
                return key.verify(signature, message, ec.ECDSA(algorithm))
        raise InvalidSignature

    return verify
