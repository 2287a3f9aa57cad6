"""Attachments of the manifests in an index, and attachments that arrive before the image."""

import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import IntegrityError, transaction
from django.utils import timezone

from gridapps.access.models import AccessTag
from gridapps.audit.models import Entry
from gridapps.housekeeping import expiry, sweeping
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from gridapps.pki.tokens import Registry
from gridapps.promotion import promoting
from gridapps.pushes import pending_attachments, quota, references
from gridapps.registry import operations, queries, sharing
from gridapps.registry.errors import NotShareable
from gridapps.registry.models import Attachment, IndexedManifest, PendingAttachment, Release, Share
from tests.fixtures.cast import Cast
from tests.registry import signing
from tests.registry.built import Attestation, Image, descriptor, digest, encoded, entry, index
from tests.registry.conftest import Developer, RunningRegistry
from tests.registry.signing import EMPTY, SPDX, attachment, listing, payload, sign, signature, tag_of
from tests.registry.test_indexes import ARM, new_image, send, tagged, whole
from tests.registry.test_sweeping import age

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("real_registry")]
KEY = ec.generate_private_key(ec.SECP256R1())
SBOM = b'{"spdxVersion": "SPDX-2.3"}'


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, set_limits: Callable[..., None]) -> None:
    """The instance knows the key."""
    signing.write_public(KEY, tmp_path / "release.pub")
    set_limits(signature_keys=str(tmp_path))


def put(developer: Developer, manifest: bytes, reference: str, *blobs: bytes) -> None:
    developer.upload(EMPTY, *blobs)
    answer = developer.push(manifest, reference)
    assert answer.status_code == 201, answer.content


def put_signature(developer: Developer, of: bytes) -> bytes:
    """Sign a manifest in cosign's older format. Returns the signature's manifest."""
    content = payload(digest(of))
    manifest = attachment(signature(content, sign(KEY, content)))
    put(developer, manifest, tag_of(digest(of)), content)
    return manifest


def put_bundle(developer: Developer, of: bytes, media_type: str = OCI_MANIFEST) -> bytes:
    """Sign a manifest as cosign 3 does, with the list that clients keep."""
    signed = signing.bundle(signing.envelope(encoded(signing.statement(digest(of))), KEY))
    manifest = signing.bundle_manifest(descriptor(of, media_type), signed)
    put(developer, manifest, digest(manifest), signed)
    answer = developer.push(listing(manifest), tag_of(digest(of), ""), media_type=OCI_INDEX)
    assert answer.status_code == 201, answer.content
    return manifest


SIGNED = pytest.mark.parametrize("put_signed", [put_signature, put_bundle], ids=["simple", "bundle"])
PutSigned = Callable[[Developer, bytes], bytes]


def rows(release: Release) -> dict[str, tuple[str, str]]:
    """Subject and verifying key, by manifest."""
    found = release.attachments.values_list("manifest", "subject", "verified_by")
    return {manifest: (subject, verified_by) for manifest, subject, verified_by in found}


@SIGNED
def test_cosign_signs_each_part_of_an_index(developer: Developer, put_signed: PutSigned) -> None:
    """`cosign sign --recursive`"""
    ours, arm = new_image(), new_image(architecture="arm64")
    attestation = Attestation(ours.manifest)
    send(developer, ours, arm, attestation)
    release = whole(developer, entry(ours.manifest), entry(arm.manifest, ARM), attestation.entry)
    top = tagged(developer, "v1", OCI_INDEX)
    assert top is not None
    parts = (top, ours.manifest, arm.manifest, attestation.manifest)
    signed = [put_signed(developer, each) for each in parts]
    subjects = ["", *map(digest, parts[1:])]
    assert rows(release) == {
        digest(attestation.manifest): ("", ""),
        **{digest(each): (subject, "release") for each, subject in zip(signed, subjects, strict=True)},
    }
    assert not PendingAttachment.objects.exists()


def test_signature_of_another_manifest_of_the_index_is_refused(developer: Developer) -> None:
    ours, arm = new_image(), new_image(architecture="arm64")
    send(developer, ours, arm)
    whole(developer, entry(ours.manifest), entry(arm.manifest, ARM))
    content = payload(digest(ours.manifest))
    manifest = attachment(signature(content, sign(KEY, content)))
    developer.upload(EMPTY, content)
    answer = developer.push(manifest, tag_of(digest(arm.manifest)))
    assert f"not over {digest(arm.manifest)}" in answer.json()["details"]
    assert not Attachment.objects.exists()


@SIGNED
def test_only_a_signature_of_the_release_counts_for_sharing(
    developer: Developer, cast: Cast, set_limits: Callable[..., None], put_signed: PutSigned
) -> None:
    ours, arm = new_image(), new_image(architecture="arm64")
    send(developer, ours, arm)
    release = whole(developer, entry(ours.manifest), entry(arm.manifest, ARM))
    for part in (ours, arm):
        put_signed(developer, part.manifest)
    assert [verified_by for _, verified_by in rows(release).values()] == ["release"] * 2
    set_limits(require_signature=True)
    AccessTag.objects.get_or_create(name="city")

    def share() -> Share:
        wanted = {"app_id": developer.name, "release": release.digest, "access_tag": "city"}
        return sharing.share(by=cast.administrator, **wanted)[0]

    with pytest.raises(NotShareable, match="no such signature is attached"):
        share()
    top = tagged(developer, "v1", OCI_INDEX)
    assert top is not None
    put_signed(developer, top)
    assert {each["subject"] for each in share().attachments} == {
        "",
        digest(ours.manifest),
        digest(arm.manifest),
    }


def test_an_image_in_several_releases_is_signed_for_all(developer: Developer) -> None:
    image, arm = new_image(), new_image(architecture="arm64")
    send(developer, image, arm)
    one = whole(developer, entry(image.manifest), tag="v1")
    two = whole(developer, entry(image.manifest), entry(arm.manifest, ARM), tag="v2")
    signed = digest(put_signature(developer, image.manifest))
    assert rows(one) == rows(two) == {signed: (digest(image.manifest), "release")}
    # Later the image is pushed alone, and in another index.
    send(developer, image, reference="v3")
    alone = developer.app.releases.get(digest=digest(image.manifest))
    assert rows(alone) == {signed: ("", "release")}
    three = whole(developer, entry(image.manifest), entry(arm.manifest, ARM | {"variant": "v9"}), tag="v4")
    assert rows(three) == {signed: (digest(image.manifest), "release")}
    again = digest(put_bundle(developer, image.manifest))
    assert all(again in rows(each) for each in (one, two, alone, three))


def test_an_older_release_knows_its_image_only(developer: Developer) -> None:
    ours, arm = new_image(), new_image(architecture="arm64")
    send(developer, ours, arm)
    entries = (entry(ours.manifest), entry(arm.manifest, ARM))
    release = whole(developer, *entries)
    release.indexed_manifests.all().delete()  # as before this table
    put_signature(developer, ours.manifest)
    put_signature(developer, arm.manifest)
    assert len(rows(release)) == 1
    whole(developer, *entries)
    assert len(rows(release)) == 2, "pushed again"


def signed_before(developer: Developer, image: Image) -> list[bytes]:
    """Everything that can be attached, before the image is there."""
    manifest = attachment(descriptor(SBOM, SPDX))
    put(developer, manifest, tag_of(digest(image.manifest), ".sbom"), SBOM)
    return [put_signature(developer, image.manifest), put_bundle(developer, image.manifest), manifest]


def test_attachments_before_the_image(developer: Developer) -> None:
    """`oras cp -r` and `cosign copy` send them first."""
    image = new_image()
    attached = signed_before(developer, image)
    assert not Attachment.objects.exists()
    assert not developer.app.releases.exists()
    assert not developer.app.tags.exists()
    assert not Entry.objects.filter(event__startswith="attachment").exists()
    send(developer, image)
    assert not Attachment.objects.exists(), "a part of an index is no release"
    send(developer, image, reference="v1")
    release = developer.app.releases.get()
    expected = dict(zip(map(digest, attached), [("", "release")] * 2 + [("", "")], strict=True))
    assert rows(release) == expected
    assert not PendingAttachment.objects.exists()
    events = Entry.objects.filter(event="attachment.pushed", subject=f"release:{release}")
    assert {event.details["manifest"] for event in events} == set(expected)
    send(developer, image, reference="v1")
    assert rows(release) == expected


def test_attachments_of_index_entries_before_the_index(developer: Developer) -> None:
    ours, arm = new_image(), new_image(architecture="arm64")
    send(developer, ours, arm)
    content = encoded(index(entry(ours.manifest), entry(arm.manifest, ARM)))
    subjects = (content, ours.manifest, arm.manifest)
    signed = [digest(put_bundle(developer, each)) for each in subjects]
    assert PendingAttachment.objects.count() == 3
    release = whole(developer, entry(ours.manifest), entry(arm.manifest, ARM))
    assert rows(release) == {
        signed[0]: ("", "release"),
        signed[1]: (digest(ours.manifest), "release"),
        signed[2]: (digest(arm.manifest), "release"),
    }


def test_cosign_copy_pushes_each_manifest_under_a_tag_of_its_digest(developer: Developer) -> None:
    image, arm = new_image(), new_image(architecture="arm64")
    attestation = Attestation(image.manifest)
    content = encoded(index(entry(image.manifest), entry(arm.manifest, ARM), attestation.entry))
    put_signature(developer, content)
    for part in (image, arm, attestation):
        put(developer, part.manifest, tag_of(digest(part.manifest), ""), *part.blobs)
    assert developer.push(content, tag_of(digest(content), ""), media_type=OCI_INDEX).status_code == 201
    assert not Release.objects.exists()
    assert tagged(developer, tag_of(digest(content), ""), OCI_INDEX) is None, "the tag is for attachments"
    assert developer.push(content, "v1", media_type=OCI_INDEX).status_code == 201
    release = developer.app.releases.get()
    assert [row.verified_by for row in release.attachments.filter(kind="signature")] == ["release"]


def test_nothing_pending_is_seen_in_another_app(developer: Developer, release: str, cast: Cast) -> None:
    app = operations.create_app(by=cast.developer, app_id=f"rivers-{secrets.token_hex(4)}", title="Rivers")
    other = Developer(developer.issued, app)
    content = payload(release)
    put(other, attachment(signature(content, sign(KEY, content))), tag_of(release), content)
    pending = PendingAttachment.objects.get()
    assert (pending.app, pending.subject) == (app, release)
    assert not developer.app.releases.get().attachments.exists()
    send(developer, new_image(), reference="v2")
    assert PendingAttachment.objects.exists()
    assert not Attachment.objects.exists()


def test_faulty_attachments_before_the_image_are_refused_at_once(developer: Developer) -> None:
    subject = "sha256:" + "5" * 64
    content = payload("sha256:" + "6" * 64)
    developer.upload(EMPTY, content)
    answer = developer.push(attachment(signature(content, sign(KEY, content))), tag_of(subject))
    assert f"not over {subject}" in answer.json()["details"]
    absent = attachment(descriptor(b"never pushed", SPDX))
    answer = developer.push(absent, tag_of(subject, ".sbom"))
    assert "was not pushed" in answer.json()["details"]
    answer = developer.push(listing(absent), tag_of(subject, ""), media_type=OCI_INDEX)
    assert f"which is not attached to {subject}" in answer.json()["details"]
    assert not PendingAttachment.objects.exists()


def test_a_list_may_name_attestations_that_builders_put_into_an_index(developer: Developer) -> None:
    image = new_image()
    attestation, other = Attestation(image.manifest, "artifact"), Attestation(image.manifest, "subjectless")
    send(developer, image, attestation, other)
    tag = tag_of(digest(image.manifest), "")
    assert developer.push(listing(attestation.manifest), tag, media_type=OCI_INDEX).status_code == 201
    for manifest in (other.manifest, image.manifest):
        answer = developer.push(listing(attestation.manifest, manifest), tag, media_type=OCI_INDEX)
        assert "is not attached to" in answer.json()["details"]
    many = [encoded({"number": number}) for number in range(33)]
    answer = developer.push(listing(*many), tag, media_type=OCI_INDEX)
    assert "names 33 manifests that are not attached" in answer.json()["details"]


def test_limits_of_pending_attachments(developer: Developer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_attachments, "MAX_PENDING", 2)
    one, two, three = new_image(), new_image(), new_image()
    put_signature(developer, one.manifest)
    put_signature(developer, two.manifest)
    put_signature(developer, two.manifest)  # again is not more
    content = payload(digest(three.manifest))
    developer.upload(content)
    signed = attachment(signature(content, sign(KEY, content)))
    answer = developer.push(signed, tag_of(digest(three.manifest)))
    assert "push the image first, and attach to its digest" in answer.json()["details"]
    assert tagged(developer, tag_of(digest(three.manifest))) is None
    PendingAttachment.objects.filter(subject=digest(one.manifest)).update(
        pushed_at=timezone.now() - timedelta(hours=25)
    )
    assert "1 attachments without a release" in expiry.plan()
    send(developer, one, reference="v1")
    assert not Attachment.objects.exists(), "too late"
    put_signature(developer, three.manifest)
    assert PendingAttachment.objects.count() == 2
    PendingAttachment.objects.update(pushed_at=timezone.now() - timedelta(hours=25))
    assert "2 attachments without a release" in expiry.tidy()


def test_limit_of_attachments_per_release(developer: Developer, monkeypatch: pytest.MonkeyPatch) -> None:
    image = new_image()
    attached = signed_before(developer, image)
    monkeypatch.setattr("gridapps.pushes.attaching.MAX_OF_RELEASE", 2)
    send(developer, image, reference="v1")
    assert len(rows(developer.app.releases.get())) == 2
    refused = Entry.objects.get(event="attachment.refused")
    assert refused.details["reasons"] == ["At most 2 documents can be attached to a release."]
    assert not PendingAttachment.objects.exists()
    assert len(attached) == 3


@pytest.mark.usefixtures("its_disk")
def test_pending_attachments_count_and_are_swept(
    developer: Developer, developer_registry: RunningRegistry, cast: Cast
) -> None:
    before = quota.used(cast.developer)
    image = new_image()
    attached = signed_before(developer, image)
    assert quota.used(cast.developer) > before + sum(map(len, attached))
    sweeping.sweep()
    assert all(developer_registry.path(digest(each)).exists() for each in attached)
    age()
    sweeping.sweep()
    # The SBOM's manifest is the same in each test.
    assert not any(developer_registry.path(digest(each)).exists() for each in attached[:2])
    send(developer, image, reference="v1")
    assert not Attachment.objects.exists()
    refused = Entry.objects.filter(event="attachment.refused")
    assert all("no longer in the registry" in entry.details["reasons"][0] for entry in refused)
    assert refused.count() >= 1


@pytest.mark.usefixtures("its_disk")
def test_attachments_of_index_entries_are_kept_with_the_index(
    developer: Developer, developer_registry: RunningRegistry
) -> None:
    image, arm = new_image(), new_image(architecture="arm64")
    send(developer, image, arm)
    whole(developer, entry(image.manifest), entry(arm.manifest, ARM))
    attached = [put(developer, part.manifest) for part in (image, arm) for put in (put_signature, put_bundle)]
    age()
    sweeping.sweep()
    assert all(developer_registry.path(digest(each)).exists() for each in attached)


@pytest.mark.usefixtures("both_registries")
def test_a_shared_copy_has_what_clients_look_for(developer: Developer, cast: Cast) -> None:
    image, arm = new_image(), new_image(architecture="arm64")
    send(developer, image, arm)
    release = whole(developer, entry(image.manifest), entry(arm.manifest, ARM))
    top = tagged(developer, "v1", OCI_INDEX)
    assert top is not None
    simple, bundles = (
        put_signature(developer, top),
        [put_bundle(developer, each) for each in (top, arm.manifest)],
    )
    AccessTag.objects.get_or_create(name="city")
    share, _ = sharing.share(
        by=cast.administrator, app_id=developer.name, release=release.digest, access_tag="city"
    )
    for _ in range(2):  # a copy that is interrupted begins again
        Share.objects.update(state="copying", activated_at=None)
        assert promoting.promote(share), Share.objects.get(pk=share.pk).reason
    share.refresh_from_db()
    assert [each["subject"] for each in share.attachments] == ["", "", digest(arm.manifest)]
    with references.repository_of(developer.app, Registry.TRUSTED) as trusted:
        assert trusted.manifest(tag_of(release.digest), media_type=OCI_MANIFEST, limit=9999) == simple
        for subject, manifest in zip((top, arm.manifest), bundles, strict=True):
            tag = tag_of(digest(subject), "")
            found = trusted.manifest(tag, media_type=OCI_INDEX, limit=9999)
            assert digest(manifest).encode() in found
            assert found.count(b"sha256:") == 1
            for kept in (subject, manifest):
                kind = OCI_INDEX if kept is top else OCI_MANIFEST
                reference = f"kept-{digest(kept).replace(':', '-')}"
                assert trusted.manifest(reference, media_type=kind, limit=9999) == kept
    row, source = queries.attachment(
        cast.administrator, developer.app, release.digest, share.attachments[2]["digest"]
    )
    assert (row["subject"], source) == (digest(arm.manifest), Registry.TRUSTED)


def test_the_database_keeps_digests(developer: Developer) -> None:
    image = new_image()
    put_signature(developer, new_image().manifest)
    send(developer, image, reference="v1")
    row = developer.app.releases.get()
    part = IndexedManifest.objects.create(release=row, digest=row.digest)
    pending = PendingAttachment.objects.get()
    pending.pk = part.pk = None
    columns = "indexed_manifest_once|registry_indexedmanifest.release_id, registry_indexedmanifest.digest"
    faults: list[tuple[str, Callable[[], Any]]] = [
        ("indexed_manifest_digest_is_sha256", lambda: IndexedManifest.objects.update(digest="latest")),
        (columns, lambda: part.save(force_insert=True)),
        ("pending_attachment_digests_are_sha256", lambda: PendingAttachment.objects.update(subject="x")),
        ("pending_attachment_once_per_app|app_id, .*manifest", lambda: pending.save(force_insert=True)),
        ("attachment_subject_is_sha256", lambda: Attachment.objects.update(subject="x")),
    ]
    put_signature(developer, image.manifest)
    for name, fault in faults:
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            fault()
