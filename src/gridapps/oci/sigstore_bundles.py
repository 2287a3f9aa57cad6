"""Sigstore bundles, as cosign 3 writes them: a signed statement that names the image by its digest.

The statement (in-toto) is in an envelope (DSSE), and the envelope in a bundle, which may also contain
certificates, timestamps and proofs of a log. These are ignored: a signature counts by its key alone. cosign
uses the same format for attestations, such as provenance; only the predicate type distinguishes them.
Sources: sigstore/protobuf-specs 0.3, DSSE 1.0, in-toto Statement v1, cosign's bundle specification.
"""

import base64
import binascii

from gridapps.oci import signatures
from gridapps.oci.documents import Document, Invalid, read_document
from gridapps.oci.signatures import Signed

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE = 64 * 1024  # bytes
PREDICATE = "dev.sigstore.bundle.predicateType"  # the annotation of a bundle's manifest
IMAGE_SIGNED = "https://sigstore.dev/cosign/sign/v1"  # the predicate type of a signature
IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"


def signed_statement(bundle: bytes, *, subject: str) -> Signed:
    """What was signed, if the bundle is a signature of the image with this digest. Raises Invalid."""
    if len(bundle) > MAX_BUNDLE:
        raise Invalid(f"The Sigstore bundle is larger than {MAX_BUNDLE} bytes.")
    document = read_document(bundle, what="The Sigstore bundle").knowing(
        ("mediaType", "verificationMaterial", "dsseEnvelope", "messageSignature")
    )
    if document.get("mediaType") != BUNDLE:
        raise Invalid(f"The mediaType in the Sigstore bundle is not {BUNDLE}.")
    if document.get("messageSignature") is not None:
        raise Invalid("The Sigstore bundle is the signature of a file: sign the image with cosign sign.")
    envelope = document.document("dsseEnvelope").knowing(("payload", "payloadType", "signatures"))
    if envelope.get("payloadType") != IN_TOTO:
        raise Invalid(f"The payloadType in the Sigstore bundle is not {IN_TOTO}.")
    statement = _payload(envelope)
    _require_signature_of(subject, statement)
    signature = _signature(envelope)
    signatures.decoded(signature)
    return Signed(encoded(statement), signature)


def encoded(statement: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that a signature of the statement is over."""
    return b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(statement), statement)


def _payload(envelope: Document) -> bytes:
    payload = envelope.get("payload")
    try:
        return base64.b64decode(payload if isinstance(payload, str) else "?", validate=True)
    except (ValueError, binascii.Error):
        raise Invalid("The payload in the Sigstore bundle is not base64.") from None


def _require_signature_of(subject: str, statement: bytes) -> None:
    """Raise Invalid unless the statement is that this image was signed, and about nothing else."""
    names = ("_type", "subject", "predicateType", "predicate")
    document = read_document(statement, what="The statement in the Sigstore bundle").knowing(names)
    if document.get("_type") != STATEMENT:
        raise Invalid(f"The statement in the Sigstore bundle is not of the type {STATEMENT}.")
    if (predicate := document.get("predicateType")) != IMAGE_SIGNED:
        raise Invalid(
            f"The statement in the Sigstore bundle has the predicateType {str(predicate)[:100]!r}, "
            f"not {IMAGE_SIGNED}."
        )
    subjects = document.documents("subject")
    if len(subjects) != 1:
        raise Invalid(f"The statement in the Sigstore bundle has {len(subjects)} subjects, not one.")
    digests = subjects[0].knowing(("name", "digest")).document("digest").plain()
    if digests != {"sha256": subject.removeprefix("sha256:")}:
        raise Invalid(f"The signature is of {str(digests)[:100]}, not over {subject}.")


def _signature(envelope: Document) -> str:
    found = envelope.documents("signatures")
    if len(found) != 1:
        raise Invalid(f"The Sigstore bundle has {len(found)} signatures, not one.")
    signature = found[0].knowing(("sig", "keyid")).get("sig")
    if not isinstance(signature, str):
        raise Invalid("The signature in the Sigstore bundle is not a string.")
    return signature
