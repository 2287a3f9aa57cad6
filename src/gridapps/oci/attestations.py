"""Attestations that builders put beside an image into its index: provenance and SBOMs.

buildx does this by default. Such a manifest is pushed before its index, and is never unpacked or run. There
are two layouts: one like an image for the platform unknown/unknown, and an OCI 1.1 artifact, with or without
the image as its subject. Source: BuildKit's attestation storage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gridapps.oci import attachments, manifests, wire_types
from gridapps.oci.attachments import MAX_DOCUMENTS, MAX_MANIFEST, Piece
from gridapps.oci.documents import Document, Invalid, read_document
from gridapps.oci.manifests import CONFIGS, OCI_MANIFEST, Blob, Received
from gridapps.oci.wire_types import ContainerConfiguration, ImageConfiguration, typed

ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
PREDICATE = "in-toto.io/predicate-type"  # the annotation
EMPTY = "application/vnd.oci.empty.v1+json"
MAX_CONFIG = 64 * 1024  # bytes


@dataclass(frozen=True)
class AttestationManifest:
    """A well-formed manifest of attestations. An index says which image they are about."""

    config: Blob
    pieces: Sequence[Piece]
    subject: str  # a digest, or empty

    @property
    def blobs(self) -> Sequence[Blob]:
        """The configuration and the documents."""
        return [self.config, *(piece.blob for piece in self.pieces)]

    @property
    def named(self) -> Sequence[str]:
        """The digests of everything that it names."""
        return [blob.digest for blob in self.blobs] + ([self.subject] if self.subject else [])


def is_attestation(received: Received) -> bool:
    """Whether a manifest is, or claims to be, an attestation that belongs into an index."""
    document = received.document
    if received.media_type != OCI_MANIFEST or not isinstance(document, Document):
        return False
    if document.get("artifactType") == ARTIFACT:
        return True
    layers, config = document.get("layers"), document.get("config")
    return (
        document.get("subject") is None
        and isinstance(config, Document)
        and config.get("mediaType") in CONFIGS
        and isinstance(layers, list)
        and any(isinstance(layer, Document) and layer.get("mediaType") == IN_TOTO for layer in layers)
    )


def parse_attestation(received: Received) -> AttestationManifest:
    """Parse and check a manifest of attestations, without its documents. Raises Invalid."""
    document = received.opened(limit=MAX_MANIFEST)
    if document.get("manifests") is not None:
        raise Invalid("The attestation is also an index; it must be one of the two.")
    artifact = document.get("artifactType")
    if artifact not in (None, "", ARTIFACT):
        raise Invalid(f"The attestation has the artifactType {str(artifact)[:100]!r}, not {ARTIFACT}.")
    config = manifests.described(document.document("config"), "The configuration")
    if config.media_type not in (*CONFIGS, EMPTY):
        raise Invalid(f"The configuration of the attestation is of type {config.media_type!r}.")
    if config.size > MAX_CONFIG:
        raise Invalid(f"The configuration of the attestation is larger than {MAX_CONFIG} bytes.")
    entries = document.documents("layers")
    if not 0 < len(entries) <= MAX_DOCUMENTS:
        raise Invalid(f"The attestation has {len(entries)} documents; 1 to {MAX_DOCUMENTS} are allowed.")
    subject = ""
    if document.get("subject") is not None:
        subject = manifests.described(document.document("subject"), "The subject").digest
    pieces = [_piece(entry, number) for number, entry in enumerate(entries, 1)]
    parsed = AttestationManifest(config, pieces, subject)
    attachments.require_small(parsed.blobs)
    typed(document, wire_types.ManifestOrIndex)
    return parsed


def judge_configuration(content: bytes, attestation: AttestationManifest) -> None:
    """Raise Invalid unless the configuration belongs to the attestation, and is of nothing that runs."""
    config = attestation.config
    if len(content) != config.size or manifests.digest_of(content) != config.digest:
        raise Invalid("The configuration differs from the one that the attestation names.")
    document = read_document(content, what="The configuration of the attestation")
    if config.media_type == EMPTY:
        if list(document):
            raise Invalid("The configuration of the attestation is not empty, as its media type says.")
        return
    image = typed(document, ImageConfiguration)
    container = image.config or ContainerConfiguration()
    if (image.os, image.architecture) != ("unknown", "unknown") or container.entrypoint or container.cmd:
        raise Invalid(
            "The configuration of the attestation is that of a program: an attestation is for the platform "
            "unknown/unknown, and has neither ENTRYPOINT nor CMD."
        )


def _piece(entry: Document, number: int) -> Piece:
    blob = manifests.described(entry, f"Document {number}")
    if blob.media_type != IN_TOTO:
        raise Invalid(f"Document {number} of the attestation is of type {blob.media_type!r}, not {IN_TOTO}.")
    predicate = entry.document("annotations").knowing((PREDICATE,)).get(PREDICATE)
    if not isinstance(predicate, str) or not 0 < len(predicate) <= 1000:
        raise Invalid(f"Document {number} of the attestation has no annotation {PREDICATE}.")
    return Piece(attachments.kind_of(predicate, IN_TOTO), blob)
