"""An attachment, from the developer's manifest to rows, and from rows to what a share keeps of it.

Judged where images are, inside the request of the push. What is refused is said to the developer and
recorded nowhere: an attachment is no release.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from gridapps.audit import record
from gridapps.oci import attachments, manifests, signatures
from gridapps.oci.attachments import Parsed, Piece, Place
from gridapps.oci.documents import Invalid
from gridapps.oci.signatures import UnusableKeys, Verify
from gridapps.pki.tokens import Registry
from gridapps.pushes import images
from gridapps.pushes.registry_client import NotInRegistry, Rejected, Repository
from gridapps.registry import kept_attachments
from gridapps.registry.models import App, Attachment, Certificate, Release

MAX_OF_RELEASE = 64  # documents
log = logging.getLogger(__name__)


def attach(
    *, app: App, certificate: Certificate, reference: str, content: bytes, media_type: str, place: Place
) -> str:
    """Take a manifest of attachments, or a client's list of them; its digest. Idempotent.

    One with the same tag takes the place of an earlier one. Raises Invalid, Unavailable.
    """
    try:
        release, rows, stored = _store(app, reference, content, media_type, place)
        if rows:
            _record(release, place, rows, certificate)
    except Invalid as error:
        record.attachment_refused(
            by=certificate.user,
            release=f"{app}@{place.release}",
            reasons=error.reasons,
            certificate=certificate.serial,
        )
        raise
    log.info("%s attached %s to %s", certificate.user, stored, release)
    return stored


def _store(
    app: App, reference: str, content: bytes, media_type: str, place: Place
) -> tuple[Release, Sequence[Attachment], str]:
    """Judge it and store it; rows that are still to be recorded, none for a list. Raises Invalid."""
    release = app.releases.filter(digest=place.release, state=Release.State.VALID).first()
    if release is None:
        raise Invalid(
            f"{app} has no release {place.release}: push the image first. Of an image for several "
            "platforms the index is the release: attach to its digest."
        )
    with Repository(app.app_id) as repository:
        try:
            if place.lists:
                _judge_list(release, attachments.parse_list(content, media_type=media_type))
                rows: Sequence[Attachment] = []
            else:
                rows = _judge(release, place, content, media_type, repository)
            stored = repository.put_manifest(reference, content, media_type=media_type)
        except NotInRegistry:
            raise Invalid("A blob of the attachment was not pushed.") from None
        except Rejected as error:
            raise Invalid(str(error)) from None
    return release, rows, stored


def read(app: App, source: Registry, kept: Mapping[str, Any]) -> bytes | None:
    """The bytes of an attachment; None if they are gone or differ from those pushed. Raises Unavailable."""
    try:
        with images.repository_of(app, source) as repository:
            content = repository.blob(kept["digest"], limit=kept["size"] + 1)
    except NotInRegistry:
        return None
    return content if manifests.digest_of(content) == kept["digest"] else None


def rows_of(
    parsed: Parsed,
    *,
    release: Release,
    manifest: str,
    tag: str,
    payloads: Mapping[str, bytes],
    keys: Mapping[str, Verify],
) -> list[Attachment]:
    """The documents of a manifest as rows that are not stored yet. `payloads` are checked bytes, by digest.

    Raises Invalid for a signature that is none, or is over something else.
    """
    rows = []
    for position, piece in enumerate(parsed.pieces):
        row = Attachment(
            release=release, kind=piece.kind, media_type=piece.blob.media_type, digest=piece.blob.digest,
            size=piece.blob.size, manifest=manifest, tag=tag, position=position,
        )  # fmt: skip
        if piece.signature:
            row.payload, row.signature = payloads[piece.blob.digest], piece.signature
            signatures.judge(row.payload, row.signature, release=release.digest)
            row.verified_by = signatures.signer(row.payload, row.signature, keys=keys)
        rows.append(row)
    return rows


def payloads_in(repository: Repository, pieces: Iterable[Piece]) -> dict[str, bytes]:
    """The payloads of the signatures among these, by digest, hashed.

    Raises NotInRegistry, Invalid, Unavailable.
    """
    found = {}
    for blob in {piece.blob.digest: piece.blob for piece in pieces if piece.signature}.values():
        content = repository.blob(blob.digest, limit=signatures.MAX_PAYLOAD + 1)
        if len(content) <= signatures.MAX_PAYLOAD and manifests.digest_of(content) != blob.digest:
            raise Invalid(f"The blob {blob.digest} is not what its digest says.")
        found[blob.digest] = content
    return found


def _judge(
    release: Release, place: Place, content: bytes, media_type: str, repository: Repository
) -> Sequence[Attachment]:
    parsed = attachments.parse(content, media_type=media_type, place=place)
    for blob in parsed.blobs:
        try:
            size = repository.blob_size(blob.digest)
        except NotInRegistry:
            raise Invalid(f"The blob {blob.digest} was not pushed.") from None
        if size != blob.size:
            raise Invalid(f"The blob {blob.digest} has {size} bytes; the manifest says {blob.size}.")
    try:
        keys = kept_attachments.known_keys()
    except UnusableKeys as error:
        log.warning("The instance's signature keys cannot be used: %s", error)
        keys = {}
    rows = rows_of(
        parsed, release=release, manifest=manifests.digest_of(content), tag=place.tag,
        payloads=payloads_in(repository, parsed.pieces), keys=keys,
    )  # fmt: skip
    _check_room(release, place, rows)
    return rows


def _judge_list(release: Release, listed: Sequence[str]) -> None:
    attached = set(release.attachments.values_list("manifest", flat=True))
    for digest in listed:
        if digest not in attached:
            raise Invalid(f"The list names {digest[:80]}, which is not attached to {release.digest}.")


def _check_room(release: Release, place: Place, rows: Sequence[Attachment]) -> None:
    others = release.attachments.exclude(manifest=rows[0].manifest)
    if place.tag:
        others = others.exclude(tag=place.tag)
    if others.count() + len(rows) > MAX_OF_RELEASE:
        raise Invalid(f"At most {MAX_OF_RELEASE} documents can be attached to a release.")


def _record(release: Release, place: Place, rows: Sequence[Attachment], certificate: Certificate) -> None:
    now = timezone.now()
    with transaction.atomic():
        App.objects.select_for_update().get(pk=release.app_id)  # two pushes record one after the other
        _check_room(release, place, rows)
        release.attachments.filter(manifest=rows[0].manifest).delete()
        if place.tag:
            release.attachments.filter(tag=place.tag).delete()
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
