"""Manifests of what developers attach to a release: signatures, SBOMs, attestations.

There are two layouts. cosign pushes a manifest under a tag that is derived from the release's digest. In the
layout of OCI 1.1 a manifest names its subject and is pushed by its own digest. This registry keeps no list of
such manifests, so clients keep one in an index under another derived tag. Nothing of an attachment is ever
unpacked or run. Sources: cosign's specifications, the OCI image specification 1.1.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gridapps.oci import manifests, signatures, sigstore_bundles
from gridapps.oci.documents import Document, Invalid
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST, Blob, Received
from gridapps.oci.signatures import MAX_PAYLOAD, Signed
from gridapps.oci.sigstore_bundles import BUNDLE, IMAGE_SIGNED, MAX_BUNDLE, PREDICATE

MAX_MANIFEST = 256 * 1024  # bytes; it may contain certificates and proofs of a log
MAX_SIZE = 16 * 1024**2  # bytes of all blobs of one manifest
MAX_DOCUMENTS = 32  # in one manifest

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"  # the annotation with the signature in base64
_VERIFIABLE = {SIMPLE_SIGNING: MAX_PAYLOAD, BUNDLE: MAX_BUNDLE}
_RESERVED = re.compile(r"sha256-([0-9a-f]{64})(.*)")
_KINDS = {".sig": "signature", ".att": "attestation", ".sbom": "sbom"}
# Words in media types and predicate types that tell the kind, in this order.
_WORDS = (
    (IMAGE_SIGNED, "signature"), ("simplesigning", "signature"), ("artifact.sig.", "signature"),
    ("notary.signature", "signature"),
    ("sbom", "sbom"), ("spdx", "sbom"), ("cyclonedx", "sbom"), ("syft", "sbom"),
    ("artifact.att.", "attestation"), ("in-toto", "attestation"), ("dsse", "attestation"),
    ("sigstore.bundle", "attestation"),
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What an attachment is about, according to its reference or its subject."""

    subject: str  # the digest of a release, or of a manifest in its index
    tag: str  # empty for a manifest that was pushed by its own digest
    kind: str  # signature, attestation, sbom; empty where the manifest itself tells it

    @property
    def lists(self) -> bool:
        """Whether clients keep their list of attachments under this tag."""
        return bool(self.tag) and not self.kind


@dataclass(frozen=True)
class Piece:
    """One document of an attachment. `signature` is base64, and set for simple signing only."""

    kind: str
    blob: Blob
    signature: str = ""

    @property
    def limit(self) -> int:
        """The most bytes of a signature that can be verified; 0 for everything else, which is not read."""
        return _VERIFIABLE.get(self.blob.media_type, 0) if self.kind == "signature" else 0

    def signed(self, content: bytes, *, subject: str) -> Signed:
        """What was signed, if this signature, of the given content, is of `subject`. Raises Invalid."""
        if self.blob.media_type == BUNDLE:
            return sigstore_bundles.signed_statement(content, subject=subject)
        return signatures.signed_payload(content, self.signature, subject=subject)


@dataclass(frozen=True)
class AttachmentManifest:
    """A well-formed manifest of attachments."""

    target: Target
    artifact: str  # the type that clients list it with
    config: Blob
    pieces: Sequence[Piece]

    @property
    def blobs(self) -> Sequence[Blob]:
        """The configuration and the documents."""
        return [self.config, *(piece.blob for piece in self.pieces)]

    @property
    def named(self) -> Sequence[str]:
        """The digests of everything that it names."""
        return [self.target.subject, *(blob.digest for blob in self.blobs)]


@dataclass(frozen=True)
class ReferrersList:
    """A client's list of the manifests that are attached to a release."""

    target: Target
    named: Sequence[str]  # digests


def list_of(listed: Sequence[tuple[AttachmentManifest, bytes]]) -> bytes:
    """The list that clients look for under a tag, where a registry keeps none itself: an index."""
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": manifests.digest_of(content),
            "size": len(content),
            "artifactType": manifest.artifact,
        }
        for manifest, content in listed
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def tag_of_list(subject: str) -> str:
    """The tag of the list of what is attached to a manifest."""
    return subject.replace(":", "-")


def is_reserved(reference: str) -> bool:
    """Whether a tag is reserved for attachments."""
    return _RESERVED.fullmatch(reference) is not None


def target_of(received: Received, reference: str) -> Target | None:
    """What this is attached to, by its tag or by its subject; None for an image.

    Raises Invalid for a reserved tag of an unknown kind, and for a subject that cannot be read.
    """
    if found := _RESERVED.fullmatch(reference):
        suffix = found[2]
        if suffix and suffix not in _KINDS:
            raise Invalid("Tags that begin with a digest are reserved for attachments: .sig, .att and .sbom.")
        return Target(f"sha256:{found[1]}", reference, _KINDS.get(suffix, ""))
    document = received.document
    if ":" not in reference or not isinstance(document, Document) or document.get("subject") is None:
        return None
    opened = replace(received, media_type=OCI_MANIFEST).opened(limit=MAX_MANIFEST)
    return Target(manifests.described(opened.document("subject"), "The subject").digest, "", "")


def subject_of(received: Received) -> str:
    """The subject of a manifest; empty if it has none or cannot be read."""
    try:
        target = target_of(received, "sha256:")  # as it is pushed by its digest
    except Invalid:
        return ""
    return target.subject if target else ""


def parse_attachment(received: Received, target: Target) -> AttachmentManifest | ReferrersList:
    """Parse and check a document of the target, without its blobs. Raises Invalid."""
    return _list(received, target) if target.lists else _manifest(received, target)


def _list(received: Received, target: Target) -> ReferrersList:
    if received.media_type != OCI_INDEX:
        raise Invalid(f"A list of attachments is of type {OCI_INDEX}, not {received.media_type[:200]!r}.")
    document = received.opened(limit=MAX_MANIFEST)
    if any(document.get(name) is not None for name in ("layers", "config", "subject")):
        raise Invalid("The list of attachments is also something else.")
    entries = document.documents("manifests")
    listed = [manifests.described(entry, "An entry of the list").digest for entry in entries]
    return ReferrersList(target, listed)


def _manifest(received: Received, target: Target) -> AttachmentManifest:
    if received.media_type != OCI_MANIFEST:
        raise Invalid(f"An attachment is of type {OCI_MANIFEST}, not {received.media_type[:200]!r}.")
    document = received.opened(limit=MAX_MANIFEST)
    if document.get("manifests") is not None:
        raise Invalid("The manifest is also an index; it must be one of the two.")
    if document.get("subject") is not None:
        subject = manifests.described(document.document("subject"), "The subject").digest
        if subject != target.subject:
            raise Invalid(f"The attachment names the subject {subject}, and its tag {target.subject}.")
    return _parsed(document, target)


def _parsed(document: Document, target: Target) -> AttachmentManifest:
    config = manifests.described(document.document("config"), "The configuration")
    artifact = document.get("artifactType") or config.media_type
    if not isinstance(artifact, str):
        raise Invalid("The artifactType is not a string.")
    entries = document.documents("layers")
    if not 0 < len(entries) <= MAX_DOCUMENTS:
        raise Invalid(f"The attachment has {len(entries)} documents; 1 to {MAX_DOCUMENTS} are allowed.")
    predicate = document.document("annotations").knowing((PREDICATE,)).get(PREDICATE) or ""
    types = (str(predicate), artifact)
    pieces = [_piece(entry, number, target, types) for number, entry in enumerate(entries, 1)]
    parsed = AttachmentManifest(target, artifact, config, pieces)
    if config.media_type in manifests.CONFIGS and any(_is_layer(piece.blob) for piece in pieces):
        raise Invalid("This is an image, not an attachment: push it under a tag of its own.")
    require_small(parsed.blobs)
    return parsed


def require_small(blobs: Sequence[Blob]) -> None:
    """Raise Invalid if the blobs of one manifest are too large together."""
    size = sum(blob.size for blob in blobs)
    if size > MAX_SIZE:
        raise Invalid(f"The attachment is too large: {size} bytes; this instance allows {MAX_SIZE} bytes.")


def _piece(entry: Document, number: int, target: Target, types: Sequence[str]) -> Piece:
    """A document of a manifest with these types."""
    blob = manifests.described(entry, f"Document {number}")
    if blob.media_type != SIMPLE_SIGNING:
        if target.kind == "signature":
            raise Invalid(f"Document {number} is of type {blob.media_type!r}, not {SIMPLE_SIGNING}.")
        return Piece(target.kind or kind_of(*types, blob.media_type), blob)
    if target.kind not in ("signature", ""):
        raise Invalid(f"Document {number} is a signature; its tag ends with .sig.")
    signature = entry.document("annotations").knowing((SIGNATURE,)).get(SIGNATURE)
    if not isinstance(signature, str):
        raise Invalid(f"Document {number} has no annotation {SIGNATURE}.")
    return Piece("signature", blob, signature)


def kind_of(*types: str) -> str:
    """The kind that the first telling one of these media or predicate types names."""
    for media_type in types:
        for word, kind in _WORDS:
            if word in media_type:
                return kind
    return "other"


def _is_layer(blob: Blob) -> bool:
    return blob.media_type in manifests.LAYERS or ".image." in blob.media_type
