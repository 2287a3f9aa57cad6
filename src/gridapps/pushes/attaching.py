"""Attachments, from the developer's manifest to rows.

They are judged inside the request of the push, as images are. The developer reads the reasons of a refusal,
and the audit records it. An attachment is not a release. If it arrives before its release, it is judged as
well, and recorded when the release arrives.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from gridapps.audit import record
from gridapps.oci import attachments, manifests, pushed
from gridapps.oci.attachments import AttachmentManifest, ReferrersList, Target
from gridapps.oci.attestations import AttestationManifest
from gridapps.oci.documents import Invalid
from gridapps.oci.manifests import OCI_MANIFEST
from gridapps.oci.pushed import InvalidAttachment
from gridapps.oci.signatures import UnusableKeys
from gridapps.pki.tokens import Registry
from gridapps.pushes import attachment_rows, disk, pending_attachments, pushed_blobs, references
from gridapps.pushes.registry_client import NotInRegistry, Rejected, Repository
from gridapps.registry import kept_attachments, queries
from gridapps.registry.models import App, Attachment, Certificate, PendingAttachment, Release

MAX_OF_RELEASE = 64  # documents
MAX_UNKNOWN = 32  # entries of a list of attachments that are looked up in the registry
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
        with Repository(app.app_id) as repository:
            if isinstance(document, ReferrersList):
                _require_attached(document, app, repository)
                return _store(repository, reference, content, media_type)
            digest = manifests.digest_of(content)
            rows = _judged_rows(document, digest, repository)
            _require_few(app, target, rows)
            stored = _store(repository, reference, content, media_type)
        _record(app, target, rows, certificate)
    except Invalid as error:
        raise InvalidAttachment(*error.reasons, subject=target.subject) from None
    log.info("%s attached %s to %s@%s", certificate.user, stored, app, target.subject)
    return stored


def attach_pending(release: Release, repository: Repository) -> None:
    """Attach what arrived before the release, and what other releases have of the same images.

    Call it after the release was committed. Raises Unavailable.
    """
    subjects = {release.digest, *release.indexed_manifests.values_list("digest", flat=True)}
    for pending in pending_attachments.pending_for(release.app, subjects):
        try:
            _attach_later(pending, repository)
        except Invalid as error:
            refused = InvalidAttachment(*error.reasons, subject=pending.subject)
            record_refusal(refused, app=release.app, certificate=pending.certificate)
        pending.delete()
    if queries.attachments_about(release.app, subjects).exclude(release=release).exists():
        with transaction.atomic():
            App.objects.select_for_update().get(pk=release.app_id)  # serializes pushes of one App
            _copy_of_others(release, subjects)


def read_attachment(app: App, source: Registry, kept: Mapping[str, Any]) -> bytes | None:
    """The bytes of an attachment; None if they are gone or differ from those pushed. Raises Unavailable."""
    try:
        with references.repository_of(app, source) as repository:
            content = repository.blob(kept["digest"], limit=kept["size"] + 1)
    except NotInRegistry:
        return None
    return content if manifests.digest_of(content) == kept["digest"] else None


def record_refusal(error: InvalidAttachment, *, app: App, certificate: Certificate) -> None:
    """Record in the audit that an attachment was refused."""
    record.attachment_refused(
        by=certificate.user,
        release=f"{app}@{error.subject}",
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
    _replace(release, attachment_rows.rows_of(document, manifest=manifest, contents={}, keys={}), certificate)


def _store(repository: Repository, reference: str, content: bytes, media_type: str) -> str:
    try:
        return repository.put_manifest(reference, content, media_type=media_type)
    except NotInRegistry:
        raise Invalid("A blob of the attachment was not pushed.") from None
    except Rejected as error:
        raise Invalid(str(error)) from None


def _judged_rows(document: AttachmentManifest, manifest: str, repository: Repository) -> list[Attachment]:
    """The rows of a manifest, without a release. Raises Invalid, also when a blob is missing."""
    pushed_blobs.require_documents(document, repository)
    try:
        contents = attachment_rows.contents_of(document, repository)
    except NotInRegistry:
        raise Invalid("A blob of the attachment was not pushed.") from None
    try:
        keys = kept_attachments.known_keys()
    except UnusableKeys as error:
        log.warning("The instance's signature keys cannot be used: %s", error)
        keys = {}
    return attachment_rows.rows_of(document, manifest=manifest, contents=contents, keys=keys)


def _require_attached(document: ReferrersList, app: App, repository: Repository) -> None:
    """Raise Invalid unless each manifest in a client's list is attached to the subject of the list."""
    subject = document.target.subject
    known = set(pending_attachments.pending_for(app, [subject]).values_list("manifest", flat=True))
    for release in queries.releases_with(app, subject):
        known.update(release.attachments.values_list("manifest", flat=True))
    unknown = set(document.named) - known
    if len(unknown) > MAX_UNKNOWN:
        raise Invalid(f"The list names {len(unknown)} manifests that are not attached to {subject}.")
    for digest in sorted(unknown):
        if _subject_of(digest, repository) != subject:
            raise Invalid(f"The list names {digest}, which is not attached to {subject}.")


def _subject_of(digest: str, repository: Repository) -> str:
    """The subject of a manifest in the registry; empty if it has none or is missing."""
    limit = attachments.MAX_MANIFEST
    try:
        content = repository.manifest(digest, media_type=OCI_MANIFEST, limit=limit + 1)
    except NotInRegistry:
        return ""
    return attachments.subject_of(manifests.decoded(content, media_type=OCI_MANIFEST))


def _require_few(app: App, target: Target, rows: Sequence[Attachment]) -> None:
    """Raise Invalid if there is too much of the kind already, here and in the transaction that records it."""
    releases = queries.releases_with(app, target.subject)
    for release in releases:
        _check_count(release, target.tag, rows)
    if not releases:
        pending_attachments.require_few(app, manifest=rows[0].manifest, tag=target.tag)


def _check_count(release: Release, tag: str, rows: Sequence[Attachment]) -> None:
    others = release.attachments.exclude(manifest=rows[0].manifest)
    if tag:
        others = others.exclude(tag=tag)
    if others.count() + len(rows) > MAX_OF_RELEASE:
        raise _too_many()


def _too_many() -> Invalid:
    return Invalid(f"At most {MAX_OF_RELEASE} documents can be attached to a release.")


def _record(app: App, target: Target, rows: Sequence[Attachment], certificate: Certificate) -> None:
    """Attach the rows to every release that they are about; if there is none yet, they are pending."""
    with transaction.atomic():
        App.objects.select_for_update().get(pk=app.pk)  # serializes pushes of one App
        _require_few(app, target, rows)
        releases = queries.releases_with(app, target.subject)
        for release in releases:
            if target.tag:
                release.attachments.filter(tag=target.tag).delete()
            _replace(release, rows, certificate)
        if not releases:
            pending_attachments.add(
                app,
                subject=target.subject,
                manifest=rows[0].manifest,
                tag=target.tag,
                certificate=certificate,
            )


def _attach_later(pending: PendingAttachment, repository: Repository) -> None:
    """Attach a pending manifest. Raises Invalid, Unavailable."""
    app, digest = pending.app, pending.manifest
    try:
        content = repository.manifest(digest, media_type=OCI_MANIFEST, limit=attachments.MAX_MANIFEST + 1)
    except NotInRegistry:
        raise Invalid(f"The manifest {digest} is no longer in the registry.") from None
    document = pushed.identify(content, media_type=OCI_MANIFEST, reference=pending.tag or digest)
    assert isinstance(document, AttachmentManifest), "it was one when it was pushed"
    disk.developers().touch(app.app_id, digest, *document.named)
    _record(app, document.target, _judged_rows(document, digest, repository), pending.certificate)


def _copy_of_others(release: Release, subjects: Collection[str]) -> None:
    """Attach what other releases of the App have about the same images. The caller holds the App's lock."""
    known = set(release.attachments.values_list("manifest", flat=True))
    found: dict[tuple[str, int], Attachment] = {}
    for row in queries.attachments_about(release.app, subjects).exclude(release=release):
        if row.manifest not in known:
            row.subject = row.subject or row.release.digest
            found[row.manifest, row.position] = row
    room = MAX_OF_RELEASE - release.attachments.count()
    Attachment.objects.bulk_create(attachment_rows.copies_for(list(found.values())[: max(room, 0)], release))


def _replace(release: Release, rows: Sequence[Attachment], certificate: Certificate) -> None:
    """Replace the rows of one manifest by copies of these."""
    release.attachments.filter(manifest=rows[0].manifest).delete()
    new, now = attachment_rows.copies_for(rows, release), timezone.now()
    for row in new:
        row.pushed_at, row.certificate = now, certificate
    Attachment.objects.bulk_create(new)
    record.attachment_pushed(
        by=certificate.user,
        release=str(release),
        manifest=rows[0].manifest,
        kinds=[row.kind for row in rows],
        verified_by=sorted({row.verified_by for row in rows if row.verified_by}),
        certificate=certificate.serial,
    )
