"""Attachments, from the developer's manifest to rows, and from rows to what a share keeps of them.

They are judged inside the request of the push, as images are. The developer reads the reasons of a refusal,
and the audit records it. An attachment is not a release.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from gridapps.audit import record
from gridapps.oci import manifests, signatures
from gridapps.oci.attachments import AttachmentManifest, Piece, ReferrersList, Target
from gridapps.oci.attestations import AttestationManifest
from gridapps.oci.documents import Invalid
from gridapps.oci.pushed import InvalidAttachment
from gridapps.oci.signatures import UnusableKeys, Verify
from gridapps.pki.tokens import Registry
from gridapps.pushes import pushed_blobs, references
from gridapps.pushes.registry_client import NotInRegistry, Rejected, Repository
from gridapps.registry import kept_attachments
from gridapps.registry.models import App, Attachment, Certificate, Release

MAX_OF_RELEASE = 64  # documents
log = logging.getLogger(__name__)


def attach(
    document: AttachmentManifest | ReferrersList,
    *,
    app: App,
    certificate: Certificate,
    reference: str,
    content: bytes,
    media_type: str,
) -> str:
    """Store a manifest of attachments, or a client's list of them, and return its digest. Idempotent.

    A manifest replaces an earlier one with the same tag. Raises InvalidAttachment, Unavailable.
    """
    target = document.target
    try:
        release = app.releases.filter(digest=target.release, state=Release.State.VALID).first()
        if release is None:
            raise Invalid(
                f"{app} has no release {target.release}: push the image first. Of an image for several "
                "platforms the index is the release: attach to its digest."
            )
        with Repository(app.app_id) as repository:
            if isinstance(document, ReferrersList):
                _require_attached(document, release)
                rows = []
            else:
                rows = _judged_rows(document, release, manifests.digest_of(content), repository)
            stored = _store(repository, reference, content, media_type)
        if rows:
            _record(release, target, rows, certificate)
    except Invalid as error:
        raise InvalidAttachment(*error.reasons, release=target.release) from None
    log.info("%s attached %s to %s", certificate.user, stored, release)
    return stored


def record_refusal(error: InvalidAttachment, *, app: App, certificate: Certificate) -> None:
    """Record in the audit that an attachment was refused."""
    record.attachment_refused(
        by=certificate.user,
        release=f"{app}@{error.release}",
        reasons=error.reasons,
        certificate=certificate.serial,
    )


def require_few(attestations: Iterable[AttestationManifest]) -> None:
    """Raise Invalid if these have more documents than a release may have."""
    if sum(len(each.pieces) for each in attestations) > MAX_OF_RELEASE:
        raise _too_many()


def record_attestation(
    document: AttestationManifest, manifest: str, *, release: Release, certificate: Certificate
) -> None:
    """Record an attestation that came with a release's index as attachments. Idempotent.

    The caller holds the App's lock.
    """
    rows = rows_of(document.pieces, release=release, manifest=manifest, tag="", payloads={}, keys={})
    _replace(release, rows, certificate)


def read_attachment(app: App, source: Registry, kept: Mapping[str, Any]) -> bytes | None:
    """The bytes of an attachment; None if they are gone or differ from those pushed. Raises Unavailable."""
    try:
        with references.repository_of(app, source) as repository:
            content = repository.blob(kept["digest"], limit=kept["size"] + 1)
    except NotInRegistry:
        return None
    return content if manifests.digest_of(content) == kept["digest"] else None


def rows_of(
    pieces: Sequence[Piece],
    *,
    release: Release,
    manifest: str,
    tag: str,
    payloads: Mapping[str, bytes],
    keys: Mapping[str, Verify],
) -> list[Attachment]:
    """The documents of a manifest as unsaved rows. `payloads` are verified bytes, by digest.

    Raises Invalid for a malformed signature, and for a signature of another release.
    """
    rows = []
    for position, piece in enumerate(pieces):
        row = Attachment(
            release=release, kind=piece.kind, media_type=piece.blob.media_type, digest=piece.blob.digest,
            size=piece.blob.size, manifest=manifest, tag=tag, position=position,
        )  # fmt: skip
        if piece.signature:
            row.payload, row.signature = payloads[piece.blob.digest], piece.signature
            signatures.require_signature_of(release.digest, row.payload, row.signature)
            row.verified_by = signatures.signing_key(row.payload, row.signature, keys=keys)
        rows.append(row)
    return rows


def payloads_in(repository: Repository, pieces: Iterable[Piece]) -> dict[str, bytes]:
    """The payloads of the signatures among these, by digest. Each digest is verified.

    Raises NotInRegistry, Invalid, Unavailable.
    """
    found = {}
    for blob in {piece.blob.digest: piece.blob for piece in pieces if piece.signature}.values():
        content = repository.blob(blob.digest, limit=signatures.MAX_PAYLOAD + 1)
        if len(content) <= signatures.MAX_PAYLOAD and manifests.digest_of(content) != blob.digest:
            raise Invalid(f"The blob {blob.digest} does not match its digest.")
        found[blob.digest] = content
    return found


def _store(repository: Repository, reference: str, content: bytes, media_type: str) -> str:
    try:
        return repository.put_manifest(reference, content, media_type=media_type)
    except NotInRegistry:
        raise Invalid("A blob of the attachment was not pushed.") from None
    except Rejected as error:
        raise Invalid(str(error)) from None


def _judged_rows(
    document: AttachmentManifest, release: Release, manifest: str, repository: Repository
) -> list[Attachment]:
    """The rows of a manifest. Raises Invalid, also when a blob is missing."""
    pushed_blobs.require_documents(document, repository)
    try:
        payloads = payloads_in(repository, document.pieces)
    except NotInRegistry:
        raise Invalid("A blob of the attachment was not pushed.") from None
    try:
        keys = kept_attachments.known_keys()
    except UnusableKeys as error:
        log.warning("The instance's signature keys cannot be used: %s", error)
        keys = {}
    rows = rows_of(
        document.pieces, release=release, manifest=manifest, tag=document.target.tag, payloads=payloads,
        keys=keys,
    )  # fmt: skip
    _check_count(release, document.target, rows)
    return rows


def _require_attached(document: ReferrersList, release: Release) -> None:
    attached = set(release.attachments.values_list("manifest", flat=True))
    for digest in document.named:
        if digest not in attached:
            raise Invalid(f"The list names {digest[:80]}, which is not attached to {release.digest}.")


def _check_count(release: Release, target: Target, rows: Sequence[Attachment]) -> None:
    others = release.attachments.exclude(manifest=rows[0].manifest)
    if target.tag:
        others = others.exclude(tag=target.tag)
    if others.count() + len(rows) > MAX_OF_RELEASE:
        raise _too_many()


def _too_many() -> Invalid:
    return Invalid(f"At most {MAX_OF_RELEASE} documents can be attached to a release.")


def _record(release: Release, target: Target, rows: Sequence[Attachment], certificate: Certificate) -> None:
    with transaction.atomic():
        App.objects.select_for_update().get(pk=release.app_id)  # serializes pushes of one App
        _check_count(release, target, rows)
        if target.tag:
            release.attachments.filter(tag=target.tag).delete()
        _replace(release, rows, certificate)


def _replace(release: Release, rows: Sequence[Attachment], certificate: Certificate) -> None:
    """Replace the rows of one manifest."""
    release.attachments.filter(manifest=rows[0].manifest).delete()
    now = timezone.now()
    for row in rows:
        row.pushed_at, row.certificate = now, certificate
    Attachment.objects.bulk_create(rows)
    record.attachment_pushed(
        by=certificate.user,
        release=str(release),
        manifest=rows[0].manifest,
        kinds=[row.kind for row in rows],
        verified_by=sorted({row.verified_by for row in rows if row.verified_by}),
        certificate=certificate.serial,
    )
