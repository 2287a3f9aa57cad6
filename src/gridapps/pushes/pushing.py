"""A push, from the developer's manifest to a release: judge it, store it in the registry, record it.

This happens inside the request of the push, so that the developer reads the reasons of a refusal in the
terminal. The image is never run.
"""

import logging
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from gridapps.access.refusals import Refused
from gridapps.audit import record
from gridapps.oci import configurations, manifests, pushed
from gridapps.oci.attachments import AttachmentManifest, ReferrersList
from gridapps.oci.configurations import ImageProgram
from gridapps.oci.documents import Invalid
from gridapps.oci.manifests import ImageIndex, ImageManifest
from gridapps.oci.pushed import InvalidAttachment
from gridapps.pushes import attaching, disk, unpacking
from gridapps.pushes.registry_client import NotInRegistry, Rejected, Repository
from gridapps.registry.models import App, Certificate, Release, Tag

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
    linux/amd64. Raises PushRefused, after recording the reasons for the App's owner, and Unavailable.
    """
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
        return _push_image(push, document)
    except InvalidAttachment as error:
        if error.release:
            attaching.record_refusal(error, app=push.app, certificate=push.certificate)
        raise PushRefused(str(error)) from None
    except Invalid as error:
        _record_refusal(push, error)
        raise PushRefused(str(error)) from None


def _push_image(push: Push, document: ImageManifest | ImageIndex) -> str:
    with Repository(push.app.app_id) as repository:
        manifest = document if isinstance(document, ImageManifest) else _image_of(document, repository)
        _check_blobs(manifest, repository)
        program = None if push.by_digest else _judge_program(push, manifest, repository)
        try:
            stored = repository.put_manifest(push.reference, push.content, media_type=push.media_type)
        except Rejected as error:
            raise Invalid(str(error)) from None
    if program is not None:
        _record(push, manifest, program)
        log.info("%s pushed %s:%s as %s", push.certificate.user, push.app, push.reference, push.digest)
    return stored


def _judge_program(push: Push, manifest: ImageManifest, repository: Repository) -> ImageProgram:
    try:
        content = repository.blob(manifest.config.digest, limit=manifests.MAX_CONFIG + 1)
    except NotInRegistry:
        raise Invalid("The image configuration was not pushed.") from None
    program = configurations.judge_configuration(content, manifest=manifest)
    unpacking.judge_layers(manifest, program, repository, by=push.certificate.user)
    return program


def _limits() -> dict[str, int]:
    return {"max_image": settings.GRIDAPPS.max_image, "max_layers": settings.GRIDAPPS.max_layers}


def _image_of(index: ImageIndex, repository: Repository) -> ImageManifest:
    """The manifest of the index's image for linux/amd64, which was pushed earlier."""
    image = index.image
    try:
        content = repository.manifest(
            image.digest, media_type=image.media_type, limit=manifests.MAX_MANIFEST + 1
        )
    except NotInRegistry:
        raise Invalid(f"The index names {image.digest}, which was not pushed.") from None
    if manifests.digest_of(content) != image.digest or len(content) != image.size:
        raise Invalid(f"The index names {image.digest} with a wrong size.")
    manifest = pushed.decode_image(content, media_type=image.media_type, **_limits())
    assert isinstance(manifest, ImageManifest), "an index names manifests only"
    return manifest


def _check_blobs(manifest: ImageManifest, repository: Repository) -> None:
    """Raise Invalid unless every blob exists with its declared size. The limit applies to their sum."""
    for number, blob in enumerate(manifest.blobs):
        what = f"Layer {number}" if number else "The image configuration"
        try:
            size = repository.blob_size(blob.digest)
        except NotInRegistry:
            raise Invalid(f"{what} ({blob.digest}) was not pushed.") from None
        if size != blob.size:
            raise Invalid(f"{what} has {size} bytes; the manifest says {blob.size} bytes.")


def _record(push: Push, manifest: ImageManifest, program: ImageProgram) -> None:
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
                "removed_at": None,
                "size": manifest.size,
                "layers": len(manifest.layers),
                "entrypoint": program.entrypoint,
                "command": program.command,
                "certificate": push.certificate,
                # Pushing an older image again makes it the newest release.
                "pushed_at": now,
            },
        )
        Tag.objects.update_or_create(
            app=push.app, name=push.reference, defaults={"release": release, "moved_at": now}
        )
        record.release_pushed(**_named(push))


def _named(push: Push) -> dict[str, Any]:
    """How the audit names a push."""
    return {
        "by": push.certificate.user, "release": f"{push.app}@{push.digest}", "tag": push.reference,
        "certificate": push.certificate.serial,
    }  # fmt: skip


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
