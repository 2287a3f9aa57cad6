"""Rows of attachments, made from manifests and from signatures whose digest was verified."""

from collections.abc import Iterable, Mapping
from copy import copy

from gridapps.oci import manifests, signatures
from gridapps.oci.attachments import AttachmentManifest
from gridapps.oci.attestations import AttestationManifest
from gridapps.oci.documents import Invalid
from gridapps.oci.signatures import Verify
from gridapps.pushes.registry_client import Repository
from gridapps.registry.models import Attachment, Release

AnyManifest = AttachmentManifest | AttestationManifest


def contents_of(document: AnyManifest, repository: Repository) -> dict[str, bytes]:
    """The contents of the signatures in a manifest, by digest. Each digest is verified.

    Raises NotInRegistry, Invalid, Unavailable.
    """
    found = {}
    for digest, limit in {piece.blob.digest: piece.limit for piece in document.pieces if piece.limit}.items():
        content = repository.blob(digest, limit=limit + 1)
        if len(content) <= limit and manifests.digest_of(content) != digest:
            raise Invalid(f"The blob {digest} does not match its digest.")
        found[digest] = content
    return found


def rows_of(
    document: AnyManifest, *, manifest: str, contents: Mapping[str, bytes], keys: Mapping[str, Verify]
) -> list[Attachment]:
    """The documents of a manifest as unsaved rows without a release. `contents` are those of `contents_of`.

    Raises Invalid for a malformed signature, and for a signature of something else.
    """
    target = document.target if isinstance(document, AttachmentManifest) else None
    subject, tag = (target.subject, target.tag) if target else ("", "")
    rows = []
    for position, piece in enumerate(document.pieces):
        row = Attachment(
            subject=subject, kind=piece.kind, media_type=piece.blob.media_type, digest=piece.blob.digest,
            size=piece.blob.size, manifest=manifest, tag=tag, position=position,
        )  # fmt: skip
        if piece.limit:
            signed = piece.signed(contents[piece.blob.digest], subject=subject)
            row.payload, row.signature = signed.message, signed.signature
            row.verified_by = signatures.signing_key(signed, keys=keys)
        rows.append(row)
    return rows


def copies_for(rows: Iterable[Attachment], release: Release) -> list[Attachment]:
    """Unsaved copies of rows for a release."""
    copies = [copy(row) for row in rows]
    for row in copies:
        row.pk, row.release = None, release
        row.subject = "" if row.subject == release.digest else row.subject
    return copies
