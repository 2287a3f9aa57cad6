"""A push, from the developer's manifest to a release: judge, store in the developer registry, record.

Runs inside the request of the push, so that the developer reads the reasons in the terminal. The image never
runs.
"""

import logging
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from gridapps.audit import record
from gridapps.oci import attachments, manifests
from gridapps.oci.documents import Invalid
from gridapps.oci.manifests import Index, Manifest, Program
from gridapps.pushes import attaching, holding, unpacking
from gridapps.pushes.registry_client import NotInRegistry, Rejected, Repository
from gridapps.registry.models import App, Certificate, Release, Tag

MAX_REFUSED = 50  # refused releases that are kept of an App, the newest
log = logging.getLogger(__name__)


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
        """Whether it has no tag: then it is a part of an index that is still to come."""
        return ":" in self.reference


@dataclass(frozen=True)
class _Judged:
    manifest: Manifest
    program: Program


def push(push: Push) -> str:
    """Take a manifest; its digest. With a tag it becomes a release, named by it from now on. Idempotent.

    One without a tag is stored as a part of an index and is no release: it is judged for its form and its
    layers, and once more, wholly, when an index names it for linux/amd64. Raises Invalid, after recording the
    reasons as a refused release, and Unavailable, after recording nothing. What is attached to a
    release is none itself, and goes its own way.
    """
    holding.hold(push.app, push.content)
    if (place := attachments.place_of(push.reference, push.content)) is not None:
        _check_digest(push)
        return attaching.attach(
            app=push.app, certificate=push.certificate, reference=push.reference, content=push.content,
            media_type=push.media_type, place=place,
        )  # fmt: skip
    try:
        with Repository(push.app.app_id) as repository:
            judged = _judge(push, repository)
            stored = repository.put_manifest(push.reference, push.content, media_type=push.media_type)
    except Rejected as error:
        raise _refused(push, Invalid(str(error))) from None
    except Invalid as error:
        raise _refused(push, error) from None
    if judged is not None:
        _record(push, judged)
        log.info("%s pushed %s:%s as %s", push.certificate.user, push.app, push.reference, push.digest)
    return stored


def _judge(push: Push, repository: Repository) -> _Judged | None:
    """What the pushed image runs; None for a part of an index."""
    parsed = _parse(push.content, push.media_type)
    _check_digest(push)
    if isinstance(parsed, Index):
        parsed = _image_of(parsed, repository)
    _check_blobs(parsed, repository)
    if push.by_digest:
        return None
    try:
        config = repository.blob(parsed.config.digest, limit=manifests.MAX_CONFIG + 1)
    except NotInRegistry:
        raise Invalid("The image configuration was not pushed.") from None
    program = manifests.program(config, manifest=parsed)
    unpacking.check(parsed, program, repository, by=push.certificate.user)
    return _Judged(parsed, program)


def _check_digest(push: Push) -> None:
    if push.by_digest and push.reference != push.digest:
        raise Invalid("The manifest's digest is not the one that it was sent under.")


def _parse(content: bytes, media_type: str) -> Manifest | Index:
    limits = settings.GRIDAPPS
    return manifests.parse(
        content, media_type=media_type, max_image=limits.max_image, max_layers=limits.max_layers
    )


def _image_of(index: Index, repository: Repository) -> Manifest:
    """The manifest of the index's image for linux/amd64, as it was pushed before."""
    image = index.image
    try:
        content = repository.manifest(
            image.digest, media_type=image.media_type, limit=manifests.MAX_MANIFEST + 1
        )
    except NotInRegistry:
        raise Invalid(f"The index names {image.digest}, which was not pushed.") from None
    if manifests.digest_of(content) != image.digest or len(content) != image.size:
        raise Invalid(f"The index names {image.digest} with a wrong size.")
    parsed = _parse(content, image.media_type)
    assert isinstance(parsed, Manifest), "an index names manifests only"
    return parsed


def _check_blobs(manifest: Manifest, repository: Repository) -> None:
    """Every blob is there and as large as declared: the sum was judged by what was declared."""
    for number, blob in enumerate([manifest.config, *manifest.layers]):
        what = f"Layer {number}" if number else "The image configuration"
        try:
            size = repository.blob_size(blob.digest)
        except NotInRegistry:
            raise Invalid(f"{what} ({blob.digest}) was not pushed.") from None
        if size != blob.size:
            raise Invalid(f"{what} has {size} bytes; the manifest says {blob.size}.")


def _record(push: Push, judged: _Judged) -> None:
    now = timezone.now()
    with transaction.atomic():
        App.objects.select_for_update().get(pk=push.app.pk)  # two pushes record one after the other
        release, _ = Release.objects.update_or_create(
            app=push.app,
            digest=push.digest,
            defaults={
                "media_type": push.media_type,
                "state": Release.State.VALID,
                "reasons": [],
                "removed_at": None,
                "size": judged.manifest.size,
                "layers": len(judged.manifest.layers),
                "entrypoint": judged.program.entrypoint,
                "command": judged.program.command,
                "certificate": push.certificate,
                # The last push counts: pushing an older image again makes it the newest release.
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


def _refused(push: Push, error: Invalid) -> Invalid:
    """The same error, after the refusal was recorded for the App's owner. What was taken once stays so."""
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
    return error
