"""Moving tags, and moving them back when the push that moved them turns out to be refused.

Docker 26 pushes each image of an index under the tag of the index, and then the index. Such an image looks
like any other and becomes a release. If the index is refused, or an image of it for another platform, the tag
names again what it named before.
"""

from collections.abc import Collection
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from gridapps.oci import indexes, manifests
from gridapps.pushes import disk
from gridapps.pushes.registry_client import NotInRegistry, Rejected, Repository
from gridapps.registry.models import App, Certificate, Release, Tag

SAME_PUSH = timedelta(seconds=60)  # between an image and its index


def move(app: App, name: str, release: Release) -> None:
    """Record that a tag names a release. The caller holds the App's lock."""
    defaults: dict[str, object] = {"release": release, "moved_at": timezone.now()}
    before = Tag.objects.filter(app=app, name=name).exclude(release=release).first()
    if before is not None:
        defaults["previous"] = before.release
    Tag.objects.update_or_create(app=app, name=name, defaults=defaults)


def names_index_of(app: App, name: str, image: str) -> bool:
    """Whether a tag names an index with this image, or named it before its last move: buildx pushes an index
    whole, and then Docker 26 pushes its images once more. Raises Unavailable."""
    tag = Tag.objects.filter(app=app, name=name).select_related("release__app", "previous__app").first()
    named = (tag.release, tag.previous) if tag is not None else ()
    return any(
        release is not None
        and release.media_type in manifests.INDEXES
        and image in indexes.digests_in(_manifest(release) or b"")
        for release in named
    )


def images_of(app: App, name: str, *, by: Certificate) -> set[str]:
    """The image that a tag names, if it was pushed with this certificate. Docker 26 may have pushed it for an
    index whose next image is refused, and then does not push the index."""
    tags = Tag.objects.filter(app=app, name=name, release__certificate=by)
    images = tags.exclude(release__media_type__in=manifests.INDEXES)
    return set(images.values_list("release__digest", flat=True))


def restore(app: App, name: str, *, children: Collection[str]) -> None:
    """Move a tag back if it was just moved to one of these images of an index that is refused.

    The registry is asked while no lock is held. If another push moves the tag meanwhile, it stays there.
    Raises Unavailable, OSError.
    """
    moved = Tag.objects.filter(app=app, name=name, moved_at__gt=timezone.now() - SAME_PUSH)
    tag = moved.select_related("release", "previous__app").first()
    if tag is None or tag.release.digest not in children:
        return
    before = tag.previous
    if before is not None and (before.state != Release.State.VALID or not _put(name, before)):
        before = None
    if not _record(tag, before) and before is not None:
        now = Tag.objects.filter(app=app, name=name).select_related("release__app").first()
        if now is not None:
            _put(name, now.release)


def _record(tag: Tag, before: Release | None) -> bool:
    """Record that the tag names `before` again, or remove it. Returns False if it was moved meanwhile."""
    with transaction.atomic():
        App.objects.select_for_update().get(pk=tag.app_id)  # serializes pushes of one App
        unmoved = Tag.objects.filter(pk=tag.pk, moved_at=tag.moved_at)
        if before is not None:
            return bool(unmoved.update(release=before, previous=None))
        if not unmoved.delete()[0]:
            return False
        disk.developers().repository(tag.app.app_id).remove_tag(tag.name)
        return True


def _put(name: str, release: Release) -> bool:
    """Put the manifest of a release under a tag. Returns False if the registry no longer has all of it."""
    content = _manifest(release)
    if content is None:
        return False
    with Repository(release.app.app_id) as repository:
        try:
            repository.put_manifest(name, content, media_type=release.media_type)
        except Rejected:
            return False
    return True


def _manifest(release: Release) -> bytes | None:
    """The manifest of a release, or None if the registry no longer has it."""
    with Repository(release.app.app_id) as repository:
        try:
            return repository.manifest(
                release.digest, media_type=release.media_type, limit=manifests.MAX_MANIFEST
            )
        except NotInRegistry:
            return None
