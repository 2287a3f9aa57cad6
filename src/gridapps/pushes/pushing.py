"""A push, from the developer's manifest to a release: judge it, store it in the registry, record it.

This happens inside the request of the push, so that the developer reads the reasons of a refusal in the
terminal. The image is never run.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from gridapps.access.models import User
from gridapps.access.refusals import Refused
from gridapps.audit import record
from gridapps.oci import attachments, attestations, configurations, indexes, manifests, pushed
from gridapps.oci.attachments import AttachmentManifest, ReferrersList
from gridapps.oci.attestations import AttestationManifest
from gridapps.oci.configurations import ImageProgram, OtherPlatform
from gridapps.oci.documents import Invalid
from gridapps.oci.indexes import ImageIndex
from gridapps.oci.manifests import CompressedWithZstd, ImageManifest
from gridapps.oci.pushed import InvalidAttachment
from gridapps.pushes import attaching, disk, index_contents, pushed_blobs, tags, unpacking
from gridapps.pushes.index_contents import IndexContents
from gridapps.pushes.registry_client import NotInRegistry, Rejected, Repository, Unavailable
from gridapps.registry.models import App, Attachment, Certificate, IndexedManifest, Layer, Release

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878
MAX_REFUSED = 50  # the newest refused releases of an App are kept
log = logging.getLogger(__name__)


class PushRefused(Refused):
    """The manifest is refused. The message has all reasons."""

    code = "manifest-invalid"


@dataclass(frozen=True, kw_only=True)
class Push:
    """A manifest that arrived. `reference` is a tag, or the digest of the content."""

    app: App
    certificate: Certificate
    reference: str
    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return manifests.digest_of(self.content)

    @property
    def by_digest(self) -> bool:
        """Whether it has no tag. An image without a tag is part of an index that is pushed later."""
        return ":" in self.reference


def push(push: Push) -> str:
    """Accept a manifest and return its digest. Idempotent.

    An image with a tag becomes a release, which the tag names from now on. An image without a tag is stored
    as part of an index: its form and its blobs are judged now, and the rest when an index names it for
    linux/amd64. An attestation is such a part even under a tag, which then stays as it is, and so is an
    image for another platform of an index that the tag names.

    Raises PushRefused, after recording the reasons for the App's owner, and Unavailable.
    """
    if push.reference == attachments.tag_of_list(
        push.digest
    ):  # `cosign copy` does this before it sets the tag
        push = replace(push, reference=push.digest)
    try:
        document = pushed.identify(
            push.content, media_type=push.media_type, reference=push.reference, **_limits()
        )
        # Before the push relies on them: the sweep removes only what was not touched for a day.
        disk.developers().touch(push.app.app_id, push.digest, *document.named)
        if isinstance(document, AttachmentManifest | ReferrersList):
            return attaching.attach(
                document, app=push.app, certificate=push.certificate, reference=push.reference,
                content=push.content, media_type=push.media_type,
            )  # fmt: skip
        with Repository(push.app.app_id) as repository:
            if isinstance(document, AttestationManifest):
                return _store_attestation(push, document, repository)
            if push.by_digest:
                return _store_part(push, document, repository)
            return _release(push, document, repository)
    except InvalidAttachment as error:
        if error.subject:
            attaching.record_refusal(error, app=push.app, certificate=push.certificate)
        raise PushRefused(str(error)) from None
    except Invalid as error:
        _record_refusal(push, error)
        _undo(push, error)
        raise PushRefused(str(error)) from None


def _store_attestation(push: Push, document: AttestationManifest, repository: Repository) -> str:
    pushed_blobs.require_documents(document, repository)
    content = repository.blob(document.config.digest, limit=attestations.MAX_CONFIG + 1)
    attestations.judge_configuration(content, document)
    return _store(push, push.digest, repository)


def _store_part(push: Push, document: ImageManifest | ImageIndex, repository: Repository) -> str:
    if isinstance(document, ImageManifest):
        pushed_blobs.require_image(document, repository)
    return _store(push, push.digest, repository)


def _release(push: Push, document: ImageManifest | ImageIndex, repository: Repository) -> str:
    if isinstance(document, ImageIndex):
        contents = index_contents.find(document, repository, **_limits())
    else:
        contents = IndexContents(push.digest, document, {})
    pushed_blobs.require_image(contents.manifest, repository)
    content = pushed_blobs.configuration_of(contents.manifest, repository)
    try:
        program = configurations.judge_configuration(content, manifest=contents.manifest)
    except OtherPlatform:
        if tags.names_index_of(push.app, push.reference, push.digest):
            return _store(push, push.digest, repository)
        raise
    remarks = unpacking.judge_layers(contents.manifest, program, repository, by=push.certificate.user)
    attaching.require_few(contents.attestations.values())
    stored = _store(push, push.reference, repository)
    attaching.attach_pending(_record(push, contents, program, remarks), repository)
    log.info("%s pushed %s:%s as %s", push.certificate.user, push.app, push.reference, push.digest)
    return stored


def _store(push: Push, reference: str, repository: Repository) -> str:
    try:
        return repository.put_manifest(reference, push.content, media_type=push.media_type)
    except Rejected as error:
        raise Invalid(str(error)) from None


def _limits() -> dict[str, int]:
    return {"max_image": settings.GRIDAPPS.max_image, "max_layers": settings.GRIDAPPS.max_layers}


def _record(push: Push, contents: IndexContents, program: ImageProgram, remarks: list[str]) -> Release:
    now = timezone.now()
    with transaction.atomic():
        App.objects.select_for_update().get(pk=push.app.pk)  # serializes pushes of one App
        release, _ = Release.objects.update_or_create(
            app=push.app,
            digest=push.digest,
            defaults={
                "media_type": push.media_type,
                "state": Release.State.VALID,
                "reasons": [],
                "remarks": remarks,
                "removed_at": None,
                "image": contents.digest,
                "size": contents.manifest.size,
                "layers": len(contents.manifest.layers),
                "entrypoint": program.entrypoint,
                "command": program.command,
                "environment": program.environment,
                "workdir": program.workdir,
                "certificate": push.certificate,
                # Pushing an older image again makes it the newest release.
                "pushed_at": now,
            },
        )
        release.indexed_manifests.exclude(digest__in=contents.inside).delete()
        indexed = [IndexedManifest(release=release, digest=digest) for digest in sorted(contents.inside)]
        IndexedManifest.objects.bulk_create(indexed, ignore_conflicts=True)
        tags.move(push.app, push.reference, release)
        record.release_pushed(**_named(push))
        for digest, attestation in contents.attestations.items():
            attaching.record_attestation(attestation, digest, release=release, certificate=push.certificate)
    return release


class _Named(TypedDict):
    by: User
    release: str
    tag: str
    certificate: str


def _named(push: Push) -> _Named:
    """How the audit names a push."""
    return {
        "by": push.certificate.user, "release": f"{push.app}@{push.digest}", "tag": push.reference,
        "certificate": push.certificate.serial,
    }  # fmt: skip


def _undo(push: Push, error: Invalid) -> None:
    """Undo what earlier requests of a refused push have left. The refusal stands if that is impossible."""
    try:
        if isinstance(error, CompressedWithZstd):
            _forget(error.digests, push.app)
        if push.media_type in manifests.INDEXES and not push.by_digest:
            tags.restore(push.app, push.reference, children=indexes.digests_in(push.content))
        elif isinstance(error, OtherPlatform) and not push.by_digest:
            theirs = tags.images_of(push.app, push.reference, by=push.certificate)
            tags.restore(push.app, push.reference, children=theirs)
    except (OSError, Unavailable) as why:
        log.warning("A refused push to %s:%s is not undone: %s", push.app, push.reference, why)


def _forget(digests: Sequence[str], app: App) -> None:
    """Unlink the layers that are compressed with zstd. A client that finds one here would send it again
    instead of the layer with another compression. Raises OSError, Unavailable."""
    used = {
        *Layer.objects.filter(digest__in=digests).values_list("digest", flat=True),
        *Attachment.objects.filter(release__app=app, digest__in=digests).values_list("digest", flat=True),
    }
    files = disk.developers().repository(app.app_id)
    with Repository(app.app_id) as repository:
        for digest in dict.fromkeys(digests):
            if digest not in used and _starts_like_zstd(digest, repository):
                files.unlink_layer(digest)


def _starts_like_zstd(digest: str, repository: Repository) -> bool:
    try:
        return repository.blob(digest, limit=len(ZSTD_MAGIC)) == ZSTD_MAGIC
    except NotInRegistry:
        return False


def _record_refusal(push: Push, error: Invalid) -> None:
    """Record the refusal for the App's owner. A release that was accepted before stays valid."""
    log.info("%s was refused %s:%s: %s", push.certificate.user, push.app, push.reference, error)
    refused = Release.objects.filter(app=push.app, state=Release.State.REFUSED)
    with transaction.atomic():
        App.objects.select_for_update().get(pk=push.app.pk)
        taken = push.app.releases.filter(digest=push.digest).exclude(state=Release.State.REFUSED)
        if not taken.exists():
            Release.objects.update_or_create(
                app=push.app,
                digest=push.digest,
                defaults={
                    "media_type": push.media_type[:100],
                    "state": Release.State.REFUSED,
                    "reasons": error.reasons,
                    "size": 0,
                    "layers": 0,
                    "pushed_at": timezone.now(),
                    "certificate": push.certificate,
                },
            )
        record.release_refused(reasons=error.reasons, **_named(push))
        oldest = refused.order_by("-pushed_at", "-pk").values_list("pk", flat=True)[MAX_REFUSED:]
        refused.filter(pk__in=list(oldest)).delete()
