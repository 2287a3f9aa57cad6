"""Indexes as the tools of today push them, to a real registry: what becomes a release, and what it keeps."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from gridapps.access.models import AccessTag
from gridapps.audit.models import Entry
from gridapps.housekeeping import sweeping
from gridapps.oci import manifests
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from gridapps.pki.tokens import Registry
from gridapps.promotion import changes, promoting
from gridapps.pushes import disk, index_contents, pushing, references
from gridapps.pushes.registry_client import NotInRegistry, Repository
from gridapps.registry import sharing
from gridapps.registry.models import Release, Share
from tests.fixtures.cast import Cast
from tests.fixtures.ports import free_port
from tests.registry.built import (
    PROVENANCE,
    SPDX_DOCUMENT,
    UNKNOWN,
    Attestation,
    Image,
    config,
    descriptor,
    digest,
    encoded,
    entry,
    index,
    layer,
)
from tests.registry.conftest import Developer, RunningRegistry
from tests.registry.signing import attachment, tag_of
from tests.registry.test_sweeping import age

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("real_registry")]
ARM = {"os": "linux", "architecture": "arm64", "variant": "v8"}
LAYOUTS = ("image", "artifact", "subjectless")


def new_image(**changes: Any) -> Image:
    """An image that no other test has pushed."""
    layers = [layer(content=secrets.token_bytes(100))]
    return Image(encoded(config(layers=layers, **changes)), layers)


def send(developer: Developer, *parts: Image | Attestation, reference: str = "") -> None:
    """Push parts of an index by their digest, or under a tag."""
    for part in parts:
        developer.upload(*part.blobs)
        answer = developer.push(part.manifest, reference or digest(part.manifest))
        assert answer.status_code == 201, answer.content
        assert answer["Docker-Content-Digest"] == digest(part.manifest)


def whole(developer: Developer, *entries: dict[str, Any], tag: str = "v1") -> Release:
    """The release that an index becomes."""
    content = encoded(index(*entries))
    answer = developer.push(content, tag, media_type=OCI_INDEX)
    assert answer.status_code == 201, answer.content
    release = developer.app.releases.get(digest=digest(content))
    assert (release.state, tags(developer)[tag]) == ("valid", release.digest)
    assert tagged(developer, tag, OCI_INDEX) == content
    return release


def refused(developer: Developer, *entries: dict[str, Any], tag: str = "v1") -> str:
    answer = developer.push(encoded(index(*entries)), tag, media_type=OCI_INDEX)
    assert answer.status_code == 400, answer.content
    return str(answer.json()["details"])


def tags(developer: Developer) -> dict[str, str]:
    return dict(developer.app.tags.values_list("name", "release__digest"))


def tagged(developer: Developer, tag: str, media_type: str = OCI_MANIFEST) -> bytes | None:
    """What the registry itself has under a tag."""
    with Repository(developer.name) as repository:
        try:
            return repository.manifest(tag, media_type=media_type, limit=99999)
        except NotInRegistry:
            return None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_with_its_attestations(developer: Developer, layout: str) -> None:
    image = new_image()
    attestation = Attestation(image.manifest, layout, (PROVENANCE, SPDX_DOCUMENT))
    send(developer, image, attestation)
    assert not developer.app.releases.exists()
    for _ in range(2):  # a second push of the same changes nothing
        release = whole(developer, entry(image.manifest), attestation.entry)
        rows = release.attachments.values_list("kind", "digest", "manifest", "tag")
        assert list(rows) == [
            (kind, digest(document), digest(attestation.manifest), "")
            for kind, document in zip(("attestation", "sbom"), attestation.documents, strict=True)
        ]
    assert (release.image, release.size) == (digest(image.manifest), sum(map(len, image.blobs)))
    assert references.pull_of(release).reference.endswith(f"{developer.name}@{digest(image.manifest)}")
    event = Entry.objects.filter(event="attachment.pushed").first()
    assert event is not None
    assert event.details["kinds"] == ["attestation", "sbom"]


def test_of_several_platforms_the_attestations_of_ours_are_recorded(developer: Developer) -> None:
    ours, other = new_image(), new_image(architecture="arm64", variant="v8")
    attested, beside = Attestation(ours.manifest), Attestation(other.manifest)
    send(developer, other, ours, attested, beside)
    release = whole(developer, entry(ours.manifest), entry(other.manifest, ARM), attested.entry, beside.entry)
    assert release.image == digest(ours.manifest)
    assert [row.manifest for row in release.attachments.all()] == [digest(attested.manifest)]


def without_platform(image: Image, **other: Any) -> dict[str, Any]:
    return descriptor(image.manifest, OCI_MANIFEST, **other)


@pytest.mark.parametrize("platform", [{}, {"platform": None}, {"platform": {}}, {"platform": {"os": ""}}])
def test_without_a_platform_the_configuration_tells(developer: Developer, platform: dict[str, Any]) -> None:
    ours, other = new_image(), new_image(architecture="arm64")
    send(developer, ours, other)
    release = whole(developer, without_platform(other, **platform), without_platform(ours, **platform))
    assert release.image == digest(ours.manifest)
    assert "0 images for linux/amd64" in refused(developer, without_platform(other, **platform))


def test_two_images_for_the_same_platform_are_refused(developer: Developer) -> None:
    one, two = new_image(), new_image()
    send(developer, one, two)
    for second in (entry(two.manifest), without_platform(two)):
        assert "2 images for linux/amd64" in refused(developer, entry(one.manifest), second)
    assert whole(developer, entry(one.manifest), entry(two.manifest, UNKNOWN)).image == digest(one.manifest)


def test_plain_amd64_is_taken_beside_its_variants(developer: Developer) -> None:
    plain, newer = new_image(), new_image()
    send(developer, plain, newer)
    v2, v3 = (
        entry(newer.manifest, {"os": "linux", "architecture": "amd64", "variant": v}) for v in ("v2", "v3")
    )
    assert whole(developer, v3, v2, entry(plain.manifest)).image == digest(plain.manifest)
    assert "build it for plain amd64" in refused(developer, v3)


def test_an_image_that_is_named_twice_is_one(developer: Developer) -> None:
    image = new_image()
    send(developer, image)
    release = whole(developer, entry(image.manifest), entry(image.manifest), without_platform(image))
    assert release.image == digest(image.manifest)


def nested(developer: Developer, *entries: dict[str, Any], **other: Any) -> dict[str, Any]:
    """Push an index by its digest. Returns the entry for it."""
    content = encoded(index(*entries))
    answer = developer.push(content, digest(content), media_type=OCI_INDEX)
    assert answer.status_code == 201, answer.content
    return descriptor(content, OCI_INDEX, **other)


def test_the_image_in_an_index_in_an_index(developer: Developer) -> None:
    image = new_image()
    attestation = Attestation(image.manifest)
    send(developer, image, attestation)
    inner = nested(developer, entry(image.manifest), attestation.entry)
    release = whole(developer, inner)
    assert release.image == digest(image.manifest)
    assert release.attachments.count() == 1
    assert "at most 2 levels" in refused(developer, nested(developer, inner))
    arm = nested(developer, entry(image.manifest), platform=ARM)
    assert "0 images" in refused(developer, arm), "what the outer index says counts"


def test_many_entries_in_nested_indexes_are_refused(developer: Developer) -> None:
    image = new_image()
    send(developer, image)
    inner = nested(developer, *[entry(image.manifest)] * 60)
    assert "at most 64" in refused(developer, inner, *[entry(image.manifest)] * 5)


def test_entries_that_are_not_what_the_index_says(developer: Developer) -> None:
    image, other = new_image(), new_image()
    attestation = Attestation(image.manifest, "artifact")
    send(developer, image, other, attestation)
    posing = attestation.entry | descriptor(other.manifest, OCI_MANIFEST)
    assert "but it is an image" in refused(developer, entry(image.manifest), posing)
    runnable = entry(attestation.manifest)
    assert "but it is an attestation" in refused(developer, runnable)
    elsewhere = attestation.entry
    elsewhere["annotations"]["vnd.docker.reference.digest"] = digest(other.manifest)
    about = refused(developer, entry(image.manifest), entry(other.manifest, ARM), elsewhere)
    assert f"the index refers it to {digest(other.manifest)}" in about
    missing = Attestation(image.manifest, predicates=("https://example.org/never-pushed",))
    assert "was not pushed" in refused(developer, entry(image.manifest), missing.entry)
    assert "with a wrong size" in refused(developer, entry(image.manifest), attestation.entry | {"size": 5})
    assert not tags(developer)


def test_a_release_has_a_limited_number_of_documents(developer: Developer) -> None:
    image = new_image()
    several = [
        Attestation(image.manifest, predicates=[f"https://example.org/{kind}/{n}" for n in range(32)])
        for kind in ("a", "b", "c")
    ]
    send(developer, image, *several)
    assert "At most 64 documents" in refused(
        developer, entry(image.manifest), *(each.entry for each in several)
    )
    assert (
        whole(developer, entry(image.manifest), *(each.entry for each in several[:2])).attachments.count()
        == 64
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attestations_are_judged_when_they_arrive(developer: Developer, layout: str) -> None:
    image = new_image()
    attestation = Attestation(image.manifest, layout)
    first, *rest = attestation.blobs

    def why(part: Attestation) -> str:
        answer = developer.push(part.manifest, digest(part.manifest))
        assert answer.status_code == 400, answer.content
        with Repository(developer.name) as repository, pytest.raises(NotInRegistry):
            repository.manifest(digest(part.manifest), media_type=OCI_MANIFEST, limit=9)
        return str(answer.json()["details"])

    developer.upload(first)
    assert "Document 1 (sha256:" in why(attestation)
    developer.upload(*rest)
    assert developer.push(attestation.manifest, digest(attestation.manifest)).status_code == 201
    program = Attestation(image.manifest, layout, config=encoded(config()))
    developer.upload(*program.blobs)
    assert "is that of a program" in why(program) or "is not empty" in why(program)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_docker_26_puts_every_child_under_the_tag(developer: Developer, layout: str) -> None:
    image = new_image()
    attestation = Attestation(image.manifest, layout)
    send(developer, attestation, reference="latest")
    assert not tags(developer)
    assert tagged(developer, "latest") is None
    send(developer, image, reference="latest")
    assert tags(developer) == {"latest": digest(image.manifest)}
    send(developer, attestation, reference="latest")
    assert tags(developer) == {"latest": digest(image.manifest)}
    assert tagged(developer, "latest") == image.manifest
    whole(developer, entry(image.manifest), attestation.entry, tag="latest")


def test_an_image_for_another_platform_is_refused_under_a_tag(developer: Developer) -> None:
    ours, arm = new_image(), new_image(architecture="arm64")
    send(developer, ours, reference="v1")
    developer.app.tags.update(moved_at=timezone.now() - timedelta(minutes=5))
    developer.upload(*arm.blobs)
    answer = developer.push(arm.manifest, "v1")
    assert answer.status_code == 400
    assert "built for linux/arm64; build it for linux/amd64" in answer.json()["details"]
    assert tags(developer) == {"v1": digest(ours.manifest)}
    assert tagged(developer, "v1") == ours.manifest


@pytest.mark.usefixtures("its_disk")
def test_a_refused_platform_leaves_no_tag_on_another_image_of_its_index(developer: Developer) -> None:
    """As Docker 26 pushes images of several platforms: it stops at the refused one, and fails."""
    earlier, ours, arm = new_image(), new_image(), new_image(architecture="arm64")
    send(developer, earlier, ours, reference="v1")
    developer.upload(*arm.blobs)
    assert developer.push(arm.manifest, "v1").status_code == 400
    assert tags(developer) == {"v1": digest(earlier.manifest)}
    assert tagged(developer, "v1") == earlier.manifest


def test_image_for_another_platform_in_the_tagged_index_is_stored_by_digest(developer: Developer) -> None:
    """buildx pushes an index whole. Docker 26 then pushes each of its images under the tag, and the index."""
    ours, arm = new_image(), new_image(architecture="arm64")
    send(developer, ours, arm)
    parts = (entry(ours.manifest), entry(arm.manifest, {"os": "linux", "architecture": "arm64"}))
    whole(developer, *parts, tag="v1")
    named = tags(developer)
    assert developer.push(arm.manifest, "v1").status_code == 201
    assert tags(developer) == named
    assert developer.push(ours.manifest, "v1").status_code == 201
    assert developer.push(arm.manifest, "v1").status_code == 201
    whole(developer, *parts, tag="v1")
    assert tags(developer) == named
    stranger = new_image(architecture="arm64")
    developer.upload(*stranger.blobs)
    assert developer.push(stranger.manifest, "v1").status_code == 400


@pytest.mark.usefixtures("its_disk")
def test_a_refused_index_leaves_no_tag_on_an_image_of_it(developer: Developer) -> None:
    """As Docker 26 pushes: the image under the tag, then the index, which is refused here."""
    image = new_image()
    send(developer, image, reference="v1")
    refused(developer, entry(image.manifest), Attestation(image.manifest).entry)
    assert tags(developer) == {}
    assert tagged(developer, "v1") is None
    earlier = new_image()
    send(developer, earlier, image, reference="v1")
    refused(developer, entry(image.manifest), Attestation(image.manifest).entry)
    assert tags(developer) == {"v1": digest(earlier.manifest)}
    assert tagged(developer, "v1") == earlier.manifest


@pytest.mark.usefixtures("its_disk")
def test_a_refused_index_leaves_tags_that_are_older_or_of_other_images(developer: Developer) -> None:
    image, other = new_image(), new_image()
    send(developer, image, other)
    send(developer, image, reference="v1")
    missing = Attestation(other.manifest).entry
    refused(developer, entry(other.manifest), missing)
    assert tags(developer) == {"v1": digest(image.manifest)}
    developer.app.tags.update(moved_at=timezone.now() - timedelta(minutes=5))
    refused(developer, entry(image.manifest), Attestation(image.manifest).entry)
    assert tags(developer) == {"v1": digest(image.manifest)}
    assert tagged(developer, "v1") == image.manifest


@pytest.mark.usefixtures("its_disk")
def test_a_refused_zstd_layer_is_not_found_by_the_next_push(developer: Developer) -> None:
    """podman and skopeo remember where a layer is, in whatever compression, and ask for it first."""
    image, zstd = new_image(), zstd_layer()
    developer.upload(*image.blobs, zstd)
    assert "--compression-format gzip --force-compression" in refused_for_zstd(developer, image, zstd)
    assert linked(developer, zstd, *image.blobs) == [False, True, True]


@pytest.mark.usefixtures("its_disk")
def test_only_layers_that_begin_like_zstd_are_unlinked(developer: Developer) -> None:
    """A manifest may name anything as such a layer: gzip layers and documents of other pushes."""
    image, text, attached = new_image(), secrets.token_bytes(50), zstd_layer()
    send(developer, image, reference="v1")
    developer.upload(text, attached, b"{}")
    release = developer.app.releases.get().digest
    manifest = attachment(descriptor(attached, "text/plain"))
    assert developer.push(manifest, tag_of(release, ".att")).status_code == 201
    refused_for_zstd(developer, image, text, attached, *image.blobs, b"never pushed")
    assert linked(developer, text, attached, *image.blobs) == [True] * 4


def zstd_layer() -> bytes:
    return pushing.ZSTD_MAGIC + secrets.token_bytes(100)


def refused_for_zstd(developer: Developer, image: Image, *layers: bytes) -> str:
    """Push the image with more layers, all said to be compressed with zstd. Returns why it is refused."""
    document = image.document
    document["layers"] += [descriptor(each, "application/vnd.oci.image.layer.v1.tar+zstd") for each in layers]
    answer = developer.push(encoded(document), "v2")
    assert answer.status_code == 400, answer.content
    return str(answer.json()["details"])


def linked(developer: Developer, *blobs: bytes) -> list[bool]:
    """Whether a client finds each blob."""
    asked = [developer.request("HEAD", f"/v2/{developer.name}/blobs/{digest(blob)}") for blob in blobs]
    return [answer.status_code == 200 for answer in asked]


@pytest.mark.usefixtures("its_disk")
def test_a_refusal_stands_if_it_cannot_be_undone(
    developer: Developer, set_limits: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    image = new_image()
    send(developer, image, reference="v1")
    tag = disk.developers().repository(developer.name).tag("v1")
    shutil.rmtree(tag)
    tag.write_text("a file in the place of the directory")
    assert "was not pushed" in refused(developer, entry(image.manifest), Attestation(image.manifest).entry)
    assert tags(developer) == {"v1": digest(image.manifest)}, "what the database says is not changed alone"
    set_limits(registry_port=free_port())  # nothing listens there
    assert "compressed with zstd" in refused_for_zstd(developer, image, zstd_layer())
    undone = [each.getMessage() for each in caplog.records if "is not undone" in each.getMessage()]
    assert len(undone) == 2
    assert "Not a directory" in undone[0]
    assert "registry does not answer" in undone[1]


@pytest.mark.usefixtures("its_disk")
def test_tag_moved_by_another_push_is_not_restored(
    developer: Developer, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, image, newer = new_image(), new_image(), new_image()
    send(developer, earlier, image, reference="v1")
    put, transactions = Repository.put_manifest, []

    def put_after_another_push(self: Repository, reference: str, content: bytes, *, media_type: str) -> str:
        transactions.append(len(connection.savepoint_ids))
        if content == earlier.manifest:
            monkeypatch.undo()
            send(developer, newer, reference="v1")
        return put(self, reference, content, media_type=media_type)

    outside = len(connection.savepoint_ids)
    monkeypatch.setattr(Repository, "put_manifest", put_after_another_push)
    refused(developer, entry(image.manifest), Attestation(image.manifest).entry)
    assert transactions == [outside], "the registry is asked outside of a transaction"
    assert tags(developer) == {"v1": digest(newer.manifest)}
    assert tagged(developer, "v1") == newer.manifest


def largest_image() -> Image:
    """An image whose configuration is as large as it may be."""
    padding = manifests.MAX_CONFIG - len(new_image(history=[{"comment": ""}]).config)
    return new_image(history=[{"comment": "x" * padding}])


def test_all_parts_of_an_index_have_a_limited_size(developer: Developer) -> None:
    images = [largest_image() for _ in range(5)]
    send(developer, *images)
    entries = [without_platform(image) for image in images]
    with counted_reads() as read:
        why = refused(developer, *entries)
    assert f"more than {index_contents.MAX_READ} bytes together" in why
    assert sum(read) <= index_contents.MAX_READ + 1
    # With a platform nothing of them is read but the one that runs.
    named = [entry(image.manifest, ARM) for image in images[1:]]
    assert whole(developer, entries[0], *named).image == digest(images[0].manifest)


def test_a_part_that_an_index_names_often_is_read_once(developer: Developer) -> None:
    image = largest_image()
    send(developer, image)
    inner = nested(developer, without_platform(image))
    content = encoded(index(*[inner] * 30, *[without_platform(image)] * 30))
    with counted_reads() as read:
        assert developer.push(content, "v1", media_type=OCI_INDEX).status_code == 201
    # The configuration once to find its platform, and once as the one that runs.
    assert read == [inner["size"], len(image.manifest), len(image.config), len(image.config)]


@contextmanager
def counted_reads() -> Iterator[list[int]]:
    """The sizes of the manifests and blobs that the application reads whole from the registry."""
    read: list[int] = []

    def counting(method: Callable[..., bytes]) -> Callable[..., bytes]:
        def counted(*args: Any, **named: Any) -> bytes:
            content = method(*args, **named)
            read.append(len(content))
            return content

        return counted

    with pytest.MonkeyPatch.context() as patched:
        for name in ("manifest", "blob"):
            patched.setattr(Repository, name, counting(getattr(Repository, name)))
        yield read


@pytest.mark.usefixtures("its_disk")
def test_what_an_index_holds_is_not_swept(developer: Developer, developer_registry: RunningRegistry) -> None:
    ours, other = new_image(), new_image(architecture="arm64")
    attested = [Attestation(each.manifest, layout) for each in (ours, other) for layout in LAYOUTS]
    parts: list[Image | Attestation] = [ours, other, *attested]
    send(developer, *parts)
    entries = [entry(ours.manifest), entry(other.manifest, ARM), *(each.entry for each in attested)]
    release = whole(developer, nested(developer, *entries))
    assert release.attachments.count() == 3
    age()
    sweeping.sweep()
    for part in parts:
        for content in (part.manifest, *part.blobs):
            assert developer_registry.path(digest(content)).read_bytes() == content
    release.state, release.removed_at, release.reasons = Release.State.REMOVED, timezone.now(), ["Old."]
    release.save()
    developer.app.tags.all().delete()
    sweeping.sweep()
    for part in parts:
        for content in (part.manifest, *part.blobs):
            assert content == b"{}" or not developer_registry.path(digest(content)).exists()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("both_registries")
def test_a_promoted_index_keeps_all_that_it_holds(developer: Developer, cast: Cast, layout: str) -> None:
    ours, other = new_image(), new_image(architecture="arm64")
    attested = [Attestation(ours.manifest, layout), Attestation(other.manifest, layout)]
    parts: list[Image | Attestation] = [ours, other, *attested]
    send(developer, *parts)
    entries = [entry(ours.manifest), entry(other.manifest, ARM), *(each.entry for each in attested)]
    release = whole(developer, nested(developer, *entries))
    AccessTag.objects.get_or_create(name="city")
    share, _ = sharing.share(
        by=cast.administrator, app_id=developer.name, release=release.digest, access_tag="city"
    )
    assert promoting.promote(share), Share.objects.get(pk=share.pk).reason
    share.refresh_from_db()
    assert [each["manifest"] for each in share.attachments] == [digest(attested[0].manifest)]
    with references.repository_of(developer.app, Registry.TRUSTED) as trusted:
        for part in parts:
            assert (
                trusted.manifest(digest(part.manifest), media_type=OCI_MANIFEST, limit=99999) == part.manifest
            )
            for blob in part.blobs:
                assert trusted.blob(digest(blob), limit=len(blob) + 1) == blob
        top = trusted.manifest(release.digest, media_type=OCI_INDEX, limit=99999)
    assert digest(top) == release.digest
    assert references.pull_of(release, Registry.TRUSTED).reference.endswith(f"@{digest(ours.manifest)}")
    newer = new_image()
    send(developer, newer)
    differences = changes.since(share, app=developer.app, release=whole(developer, entry(newer.manifest)))
    assert f"Layers: 1 of 1 are new: {len(newer.layers[0])} bytes." in differences


def test_the_database_refuses_an_image_that_is_no_digest(developer: Developer) -> None:
    image = new_image()
    send(developer, image, reference="v1")
    assert developer.app.releases.get().image == digest(image.manifest)
    with pytest.raises(IntegrityError), transaction.atomic():
        developer.app.releases.update(image="latest")
    developer.app.releases.update(image="")  # as before this column
    assert references.pull_of(developer.app.releases.get()).reference.endswith(digest(image.manifest))
