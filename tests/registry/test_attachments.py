"""Signatures, SBOMs and other attachments through the application to a real developer registry."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import IntegrityError, transaction

from gridapps.audit.models import Entry
from gridapps.oci import attachments
from gridapps.oci.attachments import SIMPLE_SIGNING
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from gridapps.oci.sigstore_bundles import BUNDLE, MAX_BUNDLE
from gridapps.pushes import attaching
from gridapps.pushes.registry_client import NotInRegistry, Repository
from gridapps.registry import kept_attachments
from gridapps.registry.models import Attachment, Release
from tests.registry import signing
from tests.registry.built import LAYER, Image, descriptor, digest, encoded, entry, index, layer
from tests.registry.conftest import Developer
from tests.registry.signing import EMPTY, SPDX, attachment, listing, payload, sign, signature, tag_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("real_registry")]
KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
SBOM = b'{"spdxVersion": "SPDX-2.3"}'
ENVELOPE = "application/vnd.dsse.envelope.v1+json"


@pytest.fixture
def keys(tmp_path: Path, set_limits: Callable[..., None]) -> Path:
    """The operator's directory, with the one key that is known."""
    signing.write_public(KEY, tmp_path / "release.pub")
    set_limits(signature_keys=str(tmp_path))
    return tmp_path


def signed(release: str, *keys: signing.Private) -> tuple[bytes, bytes]:
    """A manifest with a signature of each key, and the payload that all are over."""
    content = payload(release)
    return attachment(*(signature(content, sign(key, content)) for key in keys)), content


def attach(developer: Developer, manifest: bytes, reference: str, *blobs: bytes, **more: str) -> Any:
    developer.upload(EMPTY, *blobs)
    return developer.push(manifest, reference, **more)


def refused(developer: Developer, manifest: bytes, reference: str, *blobs: bytes, **more: str) -> str:
    """Why it is refused. Nothing of it is recorded or stored, and it is no release."""
    releases = set(Release.objects.values_list("digest", "state"))
    answer = attach(developer, manifest, reference, *blobs, **more)
    assert answer.status_code == 400, answer.content
    assert answer.json()["errors"][0]["code"] == "MANIFEST_INVALID"
    assert set(Release.objects.values_list("digest", "state")) == releases
    assert not Attachment.objects.exists()
    with Repository(developer.name) as repository, pytest.raises(NotInRegistry):
        repository.manifest(digest(manifest), media_type=OCI_MANIFEST, limit=9)
    return str(answer.json()["details"])


def test_a_signature_in_cosigns_layout(developer: Developer, release: str, keys: Path) -> None:
    manifest, content = signed(release, KEY)
    answer = attach(developer, manifest, tag_of(release), content)
    assert answer.status_code == 201, answer.content
    assert answer["Docker-Content-Digest"] == digest(manifest)
    row = Attachment.objects.get()
    assert (row.kind, row.digest, row.size) == ("signature", digest(content), len(content))
    assert (row.verified_by, row.manifest, row.tag) == ("release", digest(manifest), tag_of(release))
    assert row.certificate == developer.issued.certificate
    assert list(developer.app.releases.values_list("digest", flat=True)) == [release], "it is no release"
    assert not developer.app.tags.filter(name=tag_of(release)).exists()
    entry = Entry.objects.get(event="attachment.pushed")
    assert (entry.subject, entry.details["verified_by"]) == (f"release:{row.release}", ["release"])
    with Repository(developer.name) as repository:
        assert repository.manifest(tag_of(release), media_type=OCI_MANIFEST, limit=9999) == manifest


def test_signing_again_adds_to_it(developer: Developer, release: str, keys: Path) -> None:
    first, content = signed(release, OTHER)
    assert attach(developer, first, tag_of(release), content).status_code == 201
    assert Attachment.objects.get().verified_by == "", "nobody here knows the key"
    both, _ = signed(release, OTHER, KEY)
    for _ in range(2):
        assert attach(developer, both, tag_of(release), content).status_code == 201
        assert list(Attachment.objects.values_list("verified_by", flat=True)) == ["", "release"]


def test_sboms_and_attestations_in_cosigns_layout(developer: Developer, release: str) -> None:
    sboms = attachment(descriptor(SBOM, SPDX), descriptor(EMPTY, "application/vnd.cyclonedx+json"))
    assert attach(developer, sboms, tag_of(release, ".sbom"), SBOM).status_code == 201
    attested = attachment(descriptor(b'{"payload": ""}', ENVELOPE))
    assert attach(developer, attested, tag_of(release, ".att"), b'{"payload": ""}').status_code == 201
    assert list(Attachment.objects.values_list("kind", "media_type")) == [
        ("sbom", SPDX), ("sbom", "application/vnd.cyclonedx+json"), ("attestation", ENVELOPE),
    ]  # fmt: skip


def subject_of(release: str) -> dict[str, Any]:
    return {"mediaType": OCI_MANIFEST, "digest": release, "size": 1}


@pytest.mark.parametrize(
    ("artifact", "layer_type", "kind"),
    [
        (
            "application/spdx+json",
            "application/vnd.oci.image.layer.v1.tar",
            "sbom",
        ),  # as oras attaches a file
        ("application/vnd.cncf.notary.signature", "application/jose+json", "signature"),
        ("application/vnd.in-toto+json", "application/vnd.in-toto+json", "attestation"),
        ("application/vnd.dev.sigstore.bundle.v0.3+json",) * 2 + ("attestation",),
        ("doc/example", "text/plain", "other"),
    ],
)
def test_the_layout_of_referrers_with_the_list_that_clients_keep(
    developer: Developer, release: str, artifact: str, layer_type: str, kind: str
) -> None:
    manifest = attachment(
        descriptor(SBOM, layer_type), kind="application/vnd.oci.empty.v1+json", artifactType=artifact,
        subject=subject_of(release), annotations={"org.opencontainers.image.created": "2026-01-01T00:00:00Z"},
    )  # fmt: skip
    listed = tag_of(release, "")
    assert "not attached to" in refused(developer, listing(manifest), listed, SBOM, media_type=OCI_INDEX)
    answer = attach(developer, manifest, digest(manifest), SBOM)
    assert answer.status_code == 201, answer.content
    answer = developer.push(listing(manifest), listed, media_type=OCI_INDEX)
    assert answer.status_code == 201, answer.content
    row = Attachment.objects.get()
    assert (row.kind, row.tag, row.release.digest) == (kind, "", release)
    assert developer.push(listing(manifest, manifest), listed, media_type=OCI_INDEX).status_code == 201
    asked = developer.authorize("GET", f"/v2/{developer.name}/referrers/{release}")
    assert asked.status_code == 204, "the registry itself says that it has no such list"


def test_a_signature_in_the_layout_of_referrers_is_verified(
    developer: Developer, release: str, keys: Path
) -> None:
    content = payload(release)
    manifest = attachment(
        signature(content, sign(KEY, content)), kind="application/vnd.dev.cosign.artifact.sig.v1+json",
        subject=subject_of(release),
    )  # fmt: skip
    assert attach(developer, manifest, digest(manifest), content).status_code == 201
    assert Attachment.objects.get().verified_by == "release"


def test_a_signature_in_a_sigstore_bundle_is_verified(developer: Developer, release: str, keys: Path) -> None:
    """As cosign 3 signs by default."""
    statement = encoded(signing.statement(release))
    for key, verified_by in ((OTHER, ""), (KEY, "release")):
        signed = signing.bundle(signing.envelope(statement, key))
        manifest = signing.bundle_manifest(subject_of(release), signed)
        assert attach(developer, manifest, digest(manifest), signed).status_code == 201
        row = Attachment.objects.get(manifest=digest(manifest))
        assert (row.kind, row.media_type, row.verified_by) == ("signature", BUNDLE, verified_by)
        assert kept_attachments.verify(row.release)[-1]["verified_by"] == verified_by
    (keys / "release.pub").unlink()
    signing.write_public(OTHER, keys / "second.pub")
    first, second = kept_attachments.verify(Release.objects.get(digest=release))
    assert (first["verified_by"], second["verified_by"]) == ("second", ""), "from the row alone"


def test_sigstore_bundles_that_sign_something_else(developer: Developer, release: str, keys: Path) -> None:
    other = encoded(signing.statement("sha256:" + "0" * 64))
    provenance = encoded(signing.statement(release, predicateType="https://slsa.dev/provenance/v1"))
    for spoiled, words in (
        (signing.bundle(signing.envelope(other, KEY)), "is of {'sha256': '0000"),
        (signing.bundle(signing.envelope(provenance, KEY)), "predicateType 'https://slsa.dev/"),
        (b"{}", "The mediaType in the Sigstore bundle"),
        (b"x" * (MAX_BUNDLE + 1), "larger than 65536 bytes"),
    ):
        manifest = signing.bundle_manifest(subject_of(release), spoiled)
        assert words in refused(developer, manifest, digest(manifest), spoiled)


@pytest.mark.parametrize(
    ("predicate", "kind"),
    [("https://slsa.dev/provenance/v1", "attestation"), ("https://spdx.dev/Document", "sbom")],
)
def test_a_signed_attestation_is_no_signature_of_the_image(
    developer: Developer, release: str, keys: Path, predicate: str, kind: str
) -> None:
    """It may say that the image has faults. It is kept, and nothing in it is read."""
    statement = encoded(signing.statement(release, predicateType=predicate))
    for signed in (signing.bundle(signing.envelope(statement, KEY)), b"nothing"):
        manifest = signing.bundle_manifest(subject_of(release), signed, predicate=predicate)
        assert attach(developer, manifest, digest(manifest), signed).status_code == 201
        row = Attachment.objects.get(manifest=digest(manifest))
        assert (row.kind, row.verified_by, row.signature) == (kind, "", "")


def test_signatures_over_something_else(developer: Developer, release: str, keys: Path) -> None:
    elsewhere, content = signed("sha256:" + "0" * 64, KEY)
    assert "is of 'sha256:0000" in refused(developer, elsewhere, tag_of(release), content)
    good, bad = payload(release), payload(release)[:-1] + b', "critical": {}}'
    for spoiled, words in (
        (signature(bad, sign(KEY, bad)), "has a name twice"),
        (signature(good, "no base64!"), "is not base64"),
        (signature(good, "A" * 9000), "is not base64, or too long"),
        (descriptor(good, SIMPLE_SIGNING), "has no annotation"),
        (descriptor(good, SIMPLE_SIGNING, annotations={attachments.SIGNATURE: 1}), "has no annotation"),
        (descriptor(good, SIMPLE_SIGNING, annotations=[]), "value other than an object as 'annotations'"),
        (descriptor(SBOM, SPDX), "is of type 'text/spdx+json', not"),
    ):
        # One that is good beside it does not help.
        manifest = attachment(signature(good, sign(KEY, good)), spoiled)
        assert words in refused(developer, manifest, tag_of(release), good, bad, SBOM)
    twice = attachment(signature(good, sign(KEY, good))).replace(
        b'"annotations": {', b'"annotations": {"dev.cosignproject.cosign/Signature": "AAAA", '
    )
    assert "is meant" in refused(developer, twice, tag_of(release), good)


@pytest.mark.parametrize("tag", ["sha256-{}.sig", "sha256-{}.sbom", "sha256-{}.att", "sha256-{}"])
def test_an_image_is_no_attachment(developer: Developer, release: str, tag: str) -> None:
    image = Image(layers=[layer(content=secrets.token_bytes(100))])
    reference = tag.format(release.removeprefix("sha256:"))
    why = refused(developer, image.manifest, reference, *image.blobs)
    assert "This is an image" in why or "is of type" in why


def test_an_attachment_is_no_image(developer: Developer, release: str) -> None:
    """Under a tag of a release it is refused as an image, with a subject or without."""
    developer.upload(SBOM, EMPTY)
    for manifest in (
        attachment(descriptor(SBOM, SPDX)),
        attachment(descriptor(SBOM, SPDX), subject=subject_of(release)),
        attachment(descriptor(SBOM, LAYER), subject=subject_of(release)),
    ):
        assert developer.push(manifest, "v1").status_code == 400
    assert Release.objects.get(state="valid").digest == release
    assert developer.app.tags.get(name="v1").release.digest == release
    # An image that says it is an attachment is none, and no index can name it as the image to run.
    image = Image(layers=[layer(content=secrets.token_bytes(100))])
    posing = encoded({**image.document, "subject": subject_of(release)})
    developer.upload(*image.blobs)
    assert "This is an image" in developer.push(posing, digest(posing)).json()["details"]
    hidden = attachment(descriptor(image.layers[0], LAYER), config=image.config, subject=subject_of(release),
                        kind="application/vnd.oci.empty.v1+json")  # fmt: skip
    assert developer.push(hidden, digest(hidden)).status_code == 201
    answer = developer.push(encoded(index(entry(hidden))), "run-me", media_type=OCI_INDEX)
    assert "An image must not have a subject" in answer.json()["details"]


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (attachment(descriptor(SBOM, SPDX) | {"size": attachments.MAX_SIZE}), "is too large"),
        (attachment(*[descriptor(SBOM, SPDX)] * 33), "has 33 documents"),
        (attachment(), "has 0 documents"),
        (attachment(descriptor(SBOM, SPDX) | {"size": 5}), "the manifest says 5"),
        (attachment(descriptor(b"absent", SPDX)), "was not pushed"),
        (attachment(descriptor(SBOM, SPDX, urls=["https://elsewhere.example"])), "another location"),
        (attachment(descriptor(SBOM, SPDX), annotations={"a": "x" * 300_000}), "larger than 262144 bytes"),
        (attachment(descriptor(SBOM, SPDX), artifactType=5), "artifactType is not a string"),
        (attachment(descriptor(SBOM, SPDX), manifests=[]), "is also an index"),
        (attachment(descriptor(SBOM, SPDX), Layers=[]), "only 'layers' is meant"),
        (attachment(descriptor(SBOM, SPDX), subject=subject_of("sha256:" + "3" * 64)), "names the subject"),
        (attachment(descriptor(SBOM, SPDX), subject=5), "value other than an object as 'subject'"),
        (attachment(descriptor(SBOM, SIMPLE_SIGNING)), "its tag ends with .sig"),
        (b"{", "not valid JSON"),
        (encoded({"schemaVersion": 2, "mediaType": OCI_INDEX}), "differs from its Content-Type"),
    ],
)  # fmt: skip
def test_attachments_that_are_none(developer: Developer, release: str, manifest: bytes, words: str) -> None:
    assert words in refused(developer, manifest, tag_of(release, ".sbom"), SBOM)
    (seen,) = Entry.objects.filter(event="attachment.refused")
    assert words in seen.details["reasons"][0]


def test_a_type_or_tag_that_is_none(developer: Developer, release: str) -> None:
    manifest = attachment(descriptor(SBOM, SPDX))
    assert "is of type" in refused(
        developer, manifest, tag_of(release, ".sbom"), SBOM, media_type="application/json"
    )
    for suffix in (".exe", "-v1", ".sig.sig", "."):
        assert "reserved for attachments" in refused(developer, manifest, tag_of(release, suffix), SBOM)
    subject = attachment(descriptor(SBOM, SPDX), subject=subject_of(release))
    assert "differs from the one in the request" in refused(developer, subject, digest(manifest), SBOM)
    faulty = attachment(descriptor(SBOM, SPDX), subject={"digest": "nothing"})
    assert "The subject has no" in refused(developer, faulty, digest(faulty), SBOM)
    for fault in (
        b"[]",
        listing()[:-1] + b', "layers": []}',
        encoded({"schemaVersion": 2, "manifests": [5]}),
    ):
        answer = developer.push(fault, tag_of(release, ""), media_type=OCI_INDEX)
        assert answer.status_code == 400, fault


def test_not_more_than_a_release_can_have(
    developer: Developer, release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "MAX_OF_RELEASE", 2)
    for number in range(2):
        manifest = attachment(
            descriptor(SBOM, SPDX), subject=subject_of(release), annotations={"n": str(number)}
        )
        assert attach(developer, manifest, digest(manifest), SBOM).status_code == 201
        assert attach(developer, manifest, digest(manifest), SBOM).status_code == 201, "again is not more"
    third = attachment(descriptor(SBOM, SPDX))
    answer = attach(developer, third, tag_of(release, ".sbom"), SBOM)
    assert json.loads(answer.content)["details"] == "At most 2 documents can be attached to a release."


def test_keys_of_the_operator_that_cannot_be_read_are_not_the_developers_fault(
    developer: Developer, release: str, keys: Path
) -> None:
    (keys / "broken.pub").write_text("nothing")
    manifest, content = signed(release, KEY)
    assert attach(developer, manifest, tag_of(release), content).status_code == 201
    assert Attachment.objects.get().verified_by == ""


def test_the_database_holds_to_what_is_said(developer: Developer, release: str) -> None:
    manifest = attachment(descriptor(SBOM, SPDX))
    attach(developer, manifest, tag_of(release, ".sbom"), SBOM)
    for fault in ({"verified_by": "release"}, {"digest": "sha256:abc"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Attachment.objects.update(**fault)
    row = Attachment.objects.get()
    row.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save(force_insert=True)
