"""Judges what developers attach to a release, as pure functions of bytes: signatures, SBOMs, attestations.

There are two layouts. cosign's is a manifest under a tag that is made of the release's digest. In that of
OCI 1.1 a manifest names its subject and is pushed by its own digest; where the registry keeps no list of
them, as here, clients keep one in an index under another such tag. Sources: cosign's specifications, the OCI
image specification 1.1. Nothing of an attachment is ever unpacked or run.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gridapps.oci import manifests
from gridapps.oci.documents import Ambiguous, Document, Invalid
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST, Blob

MAX_MANIFEST = 256 * 1024  # bytes; certificates and proofs of a log stand in it
MAX_SIZE = 16 * 1024**2  # bytes of all blobs of one manifest
MAX_DOCUMENTS = 32  # in one manifest

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"  # the annotation that holds it, in base64
_RESERVED = re.compile(r"sha256-([0-9a-f]{64})(.*)")
_KINDS = {".sig": "signature", ".att": "attestation", ".sbom": "sbom"}
# What a media type has to contain, in this order: cosign's own types and others' name their purpose.
_WORDS = (
    ("simplesigning", "signature"), ("artifact.sig.", "signature"), ("notary.signature", "signature"),
    ("sbom", "sbom"), ("spdx", "sbom"), ("cyclonedx", "sbom"), ("syft", "sbom"),
    ("artifact.att.", "attestation"), ("in-toto", "attestation"), ("dsse", "attestation"),
    ("sigstore.bundle", "attestation"),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where an attachment belongs. `tag` is empty for one that is pushed by its digest."""

    release: str  # its digest
    tag: str
    kind: str  # signature, attestation, sbom; empty where the manifest itself has to say it

    @property
    def lists(self) -> bool:
        """Whether what belongs here is a client's list of attachments."""
        return bool(self.tag) and not self.kind


@dataclass(frozen=True)
class Piece:
    """One document of an attachment. `signature` is base64, of simple signing only."""

    kind: str
    blob: Blob
    signature: str = ""


@dataclass(frozen=True)
class Parsed:
    """A manifest of attachments that is well formed."""

    config: Blob
    pieces: Sequence[Piece]

    @property
    def blobs(self) -> Sequence[Blob]:
        """Everything that it names."""
        return [self.config, *(piece.blob for piece in self.pieces)]


def place_of(reference: str, content: bytes) -> Place | None:
    """Where this belongs if it is an attachment by its tag, or names a subject; None for an image.

    Raises Invalid for a tag that looks like one of these and is none, and for a subject that cannot be read.
    """
    if found := _RESERVED.fullmatch(reference):
        suffix = found[2]
        if suffix and suffix not in _KINDS:
            raise Invalid("Tags that begin with a digest are kept for attachments: .sig, .att and .sbom.")
        return Place(f"sha256:{found[1]}", reference, _KINDS.get(suffix, ""))
    if ":" not in reference or not manifests.has_subject(content):
        return None
    try:
        document = manifests.opened(content, media_type=OCI_MANIFEST, limit=MAX_MANIFEST)
        return Place(manifests.described(document.document("subject"), "The subject").digest, "", "")
    except Ambiguous as error:
        raise Invalid(str(error)) from None


def parse(content: bytes, *, media_type: str, place: Place) -> Parsed:
    """Judge a manifest of attachments by itself. Raises Invalid."""
    if media_type != OCI_MANIFEST:
        raise Invalid(f"An attachment is of type {OCI_MANIFEST}, not {media_type[:200]!r}.")
    try:
        document = manifests.opened(content, media_type=media_type, limit=MAX_MANIFEST)
        if document.get("manifests") is not None:
            raise Invalid("The manifest is an index as well; it has to be one of the two.")
        if document.get("subject") is not None:
            subject = manifests.described(document.document("subject"), "The subject").digest
            if subject != place.release:
                raise Invalid(f"The attachment names the subject {subject}, and its tag {place.release}.")
        return _parsed(document, place)
    except Ambiguous as error:
        raise Invalid(str(error)) from None


def parse_list(content: bytes, *, media_type: str) -> list[str]:
    """The digests in a client's list of attachments. Raises Invalid."""
    if media_type != OCI_INDEX:
        raise Invalid(f"A list of attachments is of type {OCI_INDEX}, not {media_type[:200]!r}.")
    try:
        document = manifests.opened(content, media_type=media_type, limit=MAX_MANIFEST)
        if any(document.get(name) is not None for name in ("layers", "config", "subject")):
            raise Invalid("The list of attachments is something else as well.")
        entries = document.documents("manifests")
        return [manifests.described(entry, "An entry of the list").digest for entry in entries]
    except Ambiguous as error:
        raise Invalid(str(error)) from None


def _parsed(document: Document, place: Place) -> Parsed:
    config = manifests.described(document.document("config"), "The configuration")
    artifact = document.get("artifactType") or config.media_type
    if not isinstance(artifact, str):
        raise Invalid("The artifactType is not a string.")
    entries = document.documents("layers")
    if not 0 < len(entries) <= MAX_DOCUMENTS:
        raise Invalid(f"The attachment has {len(entries)} documents; 1 to {MAX_DOCUMENTS} are taken.")
    pieces = [_piece(entry, number, place, artifact) for number, entry in enumerate(entries, 1)]
    parsed = Parsed(config, pieces)
    if config.media_type in manifests.CONFIGS and any(_is_layer(piece.blob) for piece in pieces):
        raise Invalid("This is an image, not an attachment: push it under a tag of its own.")
    size = sum(blob.size for blob in parsed.blobs)
    if size > MAX_SIZE:
        raise Invalid(f"The attachment is too large: {size} bytes; this instance takes {MAX_SIZE}.")
    return parsed


def _piece(entry: Document, number: int, place: Place, artifact: str) -> Piece:
    blob = manifests.described(entry, f"Document {number}")
    if blob.media_type != SIMPLE_SIGNING:
        if place.kind == "signature":
            raise Invalid(f"Document {number} is of type {blob.media_type!r}, not {SIMPLE_SIGNING}.")
        return Piece(place.kind or _kind(artifact, blob.media_type), blob)
    if place.kind not in ("signature", ""):
        raise Invalid(f"Document {number} is a signature; its tag ends with .sig.")
    signature = entry.document("annotations").knowing((SIGNATURE,)).get(SIGNATURE)
    if not isinstance(signature, str):
        raise Invalid(f"Document {number} has no annotation {SIGNATURE}.")
    return Piece("signature", blob, signature)


def _kind(*types: str) -> str:
    for media_type in types:
        for word, kind in _WORDS:
            if word in media_type:
                return kind
    return "other"


def _is_layer(blob: Blob) -> bool:
    return blob.media_type in manifests.LAYERS or ".image." in blob.media_type
