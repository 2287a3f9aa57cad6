"""Pushes through the application to a real developer registry: what becomes a release, and what does not."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import IntegrityError, transaction

from gridapps.audit import trail
from gridapps.audit.models import Entry
from gridapps.oci import manifests
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from gridapps.pki import tokens
from gridapps.pushes import pushing, references
from gridapps.pushes.registry_client import NotInRegistry, Repository
from gridapps.registry import certificates
from gridapps.registry.models import Release
from gridapps.sandbox.protocol import EntryPoint
from tests.fixtures.cast import Cast
from tests.fixtures.ports import free_port
from tests.registry.built import Image, config, digest, encoded, entry, index, layer
from tests.registry.conftest import Developer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("real_registry")]


def releases(developer: Developer) -> dict[str, tuple[str, set[str]]]:
    """State and tags by digest."""
    return {
        release.digest: (release.state, {tag.name for tag in release.tags.all()})
        for release in developer.app.releases.all()
    }


def refusal(answer: Any, *, status: int = 400, code: str = "MANIFEST_INVALID") -> str:
    assert answer.status_code == status, answer.content
    body = answer.json()
    assert body["errors"][0]["code"] == code
    assert body["errors"][0]["message"] == body["details"]
    return str(body["details"])


def test_entry_point_is_recorded_at_the_push(developer: Developer) -> None:
    program = {"Entrypoint": ["/a", "b"], "Cmd": ["c"], "Env": ["PATH=/a", "A=ü=1"], "WorkingDir": "/w"}
    image = Image(config=encoded(config(config=program)))
    developer.upload(*image.blobs)
    assert developer.push(image.manifest).status_code == 201
    assert references.entry_point(developer.app.releases.get()) == EntryPoint(
        command=["/a", "b", "c"], workdir="/w", environment=["PATH=/a", "A=ü=1"]
    )
    developer.app.releases.update(environment=None)  # pushed to an earlier version
    assert references.entry_point(developer.app.releases.get()) is None


def test_a_push_becomes_a_release(developer: Developer) -> None:
    image = Image()
    developer.upload(*image.blobs)
    answer = developer.push(image.manifest)
    assert answer.status_code == 201, answer.content
    assert answer["Docker-Content-Digest"] == digest(image.manifest)
    release = developer.app.releases.get()
    assert (release.state, release.digest, release.layers) == ("valid", digest(image.manifest), 1)
    assert (release.entrypoint, release.command) == (["/program"], ["--fast"])
    assert (release.environment, release.workdir) == ([], "/")
    assert release.size == sum(map(len, image.blobs))
    assert release.certificate == developer.issued.certificate
    assert releases(developer) == {digest(image.manifest): ("valid", {"v1"})}
    with Repository(developer.name) as repository:
        assert repository.manifest(release.digest, media_type=OCI_MANIFEST, limit=9999) == image.manifest


def test_files_that_programs_do_not_see_are_remarked(developer: Developer) -> None:
    """Also at a second push, which does not read the layer again; and no more when a layer removes them."""
    model = layer("tmp/model.bin")
    for tag in ("v1", "v2"):
        image = Image(layers=[model])
        developer.upload(*image.blobs)
        assert developer.push(image.manifest, tag).status_code == 201
        release = developer.app.releases.get(digest=digest(image.manifest))
        assert "'/tmp/model.bin'" in release.remarks[0]
    image = Image(layers=[model, layer("tmp/.wh.model.bin", content=b"")])
    developer.upload(*image.blobs)
    assert developer.push(image.manifest, "v3").status_code == 201
    assert developer.app.releases.get(digest=digest(image.manifest)).remarks == []


def test_the_same_push_again_changes_nothing_but_the_time(developer: Developer) -> None:
    image = Image()
    developer.upload(*image.blobs)
    developer.push(image.manifest)
    before = developer.app.releases.get()
    assert developer.push(image.manifest).status_code == 201
    after = developer.app.releases.get()
    assert after.pk == before.pk
    assert after.pushed_at > before.pushed_at


def test_a_tag_that_moves_makes_a_new_release(developer: Developer) -> None:
    first, second = Image(), Image(layers=[layer("other")])
    developer.upload(*first.blobs, *second.blobs)
    for image in (first, second):
        assert developer.push(image.manifest, "latest").status_code == 201
    assert releases(developer) == {
        digest(first.manifest): ("valid", set()),
        digest(second.manifest): ("valid", {"latest"}),
    }


def test_what_is_refused_is_shown_to_the_owner_and_stored_nowhere(developer: Developer) -> None:
    image = Image(config=encoded(config(config={})))
    developer.upload(*image.blobs)
    assert "no ENTRYPOINT" in refusal(developer.push(image.manifest))
    release = developer.app.releases.get()
    assert (release.state, release.digest) == ("refused", digest(image.manifest))
    assert "no ENTRYPOINT" in release.reasons[0]
    assert not release.tags.exists()
    with Repository(developer.name) as repository, pytest.raises(NotInRegistry):
        repository.manifest(release.digest, media_type=OCI_MANIFEST, limit=9999)


@pytest.mark.parametrize(
    ("missing", "words"), [(0, "The image configuration (sha256:"), (1, "Layer 1 (sha256:")]
)
def test_blobs_that_were_not_pushed(developer: Developer, missing: int, words: str) -> None:
    image = Image()
    developer.upload(*(blob for number, blob in enumerate(image.blobs) if number != missing))
    assert words in refusal(developer.push(image.manifest))


def test_a_blob_of_another_repository_is_not_there(developer: Developer) -> None:
    image = Image(layers=[layer("secret")])
    developer.upload(*image.blobs, name=f"{developer.name}-other")
    assert "was not pushed" in refusal(developer.push(image.manifest))


def test_sizes_are_what_lies_there_not_what_is_said(developer: Developer) -> None:
    image = Image()
    developer.upload(*image.blobs)
    document = image.document
    document["layers"][0]["size"] -= 1
    assert "the manifest says" in refusal(developer.push(encoded(document)))


def test_too_large(developer: Developer, set_limits: Callable[..., None]) -> None:
    image = Image()
    developer.upload(*image.blobs)
    set_limits(max_image=sum(map(len, image.blobs)) - 1)
    assert "too large" in refusal(developer.push(image.manifest))
    set_limits(max_image=sum(map(len, image.blobs)))
    assert developer.push(image.manifest).status_code == 201
    assert developer.app.releases.get().state == "valid", "it was refused before, and is not any more"


def test_a_release_stays_valid_when_limits_become_narrower(
    developer: Developer, set_limits: Callable[..., None]
) -> None:
    image = Image()
    developer.upload(*image.blobs)
    developer.push(image.manifest)
    set_limits(max_image=1)
    refusal(developer.push(image.manifest))
    assert releases(developer) == {digest(image.manifest): ("valid", {"v1"})}


def test_a_manifest_of_more_than_4_mib(developer: Developer) -> None:
    text = Image().manifest + b" " * manifests.MAX_MANIFEST
    assert "larger than" in refusal(developer.push(text))


def test_a_digest_has_to_be_that_of_the_bytes(developer: Developer) -> None:
    image = Image()
    developer.upload(*image.blobs)
    assert "differs from the one in the request" in refusal(developer.push(image.manifest, digest(b"other")))


def test_a_manifest_without_a_tag_is_a_part_and_no_release(developer: Developer) -> None:
    image = Image(config=encoded(config(architecture="arm64")))
    developer.upload(*image.blobs)
    assert developer.push(image.manifest, digest(image.manifest)).status_code == 201
    assert releases(developer) == {}
    assert "linux/arm64" in refusal(developer.push(image.manifest)), "with a tag it is judged wholly"


def test_an_index_is_judged_by_its_image_for_this_platform(developer: Developer) -> None:
    image, other = Image(), Image(config=encoded(config(architecture="arm64", config={})))
    developer.upload(*image.blobs, *other.blobs)
    for part in (image, other):
        assert developer.push(part.manifest, digest(part.manifest)).status_code == 201
    arm = entry(other.manifest, {"os": "linux", "architecture": "arm64"})
    whole = encoded(index(arm, entry(image.manifest)))
    assert developer.push(whole, media_type=OCI_INDEX).status_code == 201
    release = developer.app.releases.get()
    assert (release.digest, release.media_type) == (digest(whole), OCI_INDEX)
    assert (release.entrypoint, release.size) == (["/program"], sum(map(len, image.blobs)))


def test_a_bad_image_does_not_hide_in_an_index(developer: Developer) -> None:
    image = Image(config=encoded(config(config={"Entrypoint": ["/a"], "Volumes": {"/etc": {}}})))
    developer.upload(*image.blobs)
    developer.push(image.manifest, digest(image.manifest))
    whole = encoded(index(entry(image.manifest)))
    assert "VOLUME '/etc'" in refusal(developer.push(whole, media_type=OCI_INDEX))


def test_an_index_that_lies_about_its_image(developer: Developer) -> None:
    image = Image(config=encoded(config(architecture="arm64")))
    developer.upload(*image.blobs)
    developer.push(image.manifest, digest(image.manifest))
    whole = encoded(index(entry(image.manifest)))
    assert "built for linux/arm64" in refusal(developer.push(whole, media_type=OCI_INDEX))
    absent = encoded(index(entry(b"absent")))
    assert "was not pushed" in refusal(developer.push(absent, media_type=OCI_INDEX))


def test_refused_releases_do_not_pile_up(developer: Developer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "MAX_REFUSED", 3)
    for number in range(5):
        refusal(developer.push(encoded({"number": number})))
    kept = list(developer.app.releases.order_by("-pushed_at").values_list("digest", flat=True))
    assert kept == [digest(encoded({"number": number})) for number in (4, 3, 2)]


def test_refusals_do_not_fill_the_audit(developer: Developer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bad manifest has a digest of its own, so each would be an entry of its own."""
    monkeypatch.setattr(trail, "MAX_REFUSED", 3)
    for number in range(5):
        refusal(developer.push(encoded({"number": number})))
    assert Entry.objects.filter(event=Entry.Event.RELEASE_REFUSED).count() == 3


def test_the_registry_is_gone(developer: Developer, set_limits: Callable[..., None]) -> None:
    set_limits(registry_port=free_port())
    answer = developer.push(Image().manifest)
    assert "does not answer" in refusal(answer, status=503, code="UNAVAILABLE")
    assert releases(developer) == {}, "nothing is known to be wrong with the image"


def test_who_may_not_push(developer: Developer, cast: Cast) -> None:
    image = Image()
    denied = {"status": 401, "code": "DENIED"}
    developer.app.owner = cast.analyst
    developer.app.save()
    assert "has no App" in refusal(developer.push(image.manifest), **denied)  # type: ignore[arg-type]
    developer.app.owner = cast.developer
    developer.app.save()
    certificates.revoke(by=developer.issued.certificate.user, certificate=developer.issued.certificate)
    assert "revoked" in refusal(developer.push(image.manifest), **denied)  # type: ignore[arg-type]
    developer.presented = ""
    assert "no client certificate" in refusal(developer.push(image.manifest), **denied)  # type: ignore[arg-type]
    assert not Release.objects.exists()


@pytest.mark.parametrize("reference", ["..", "v1%2f..", "a" * 129, "-v1", "sha256:abc"])
def test_references_that_are_none(developer: Developer, reference: str) -> None:
    assert developer.push(Image().manifest, reference).status_code in (401, 404)
    assert not Release.objects.exists()


def test_the_judgement_for_nginx(developer: Developer) -> None:
    granted = developer.authorize("GET", f"/v2/{developer.name}/tags/list")
    assert (granted.status_code, granted.content) == (204, b"")
    assert granted["X-Registry-Authorization"].startswith("Bearer ")
    push = developer.authorize("PUT", f"/v2/{developer.name}/manifests/v1")
    assert push.status_code == 204
    assert "X-Registry-Authorization" not in push, "the registry itself takes no manifest from outside"
    denied = developer.authorize("GET", "/v2/rivers/tags/list")
    assert denied.status_code == 401
    assert json.loads(denied["X-Refusal"]) == denied.json()
    assert developer.authorize("GET", "").status_code == 401


def test_a_token_of_the_realm_opens_nothing(developer: Developer) -> None:
    answer = developer.ask("GET", f"/registry/token?scope=repository:{developer.name}:pull")
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 60
    bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
    base = f"http://127.0.0.1:{settings.GRIDAPPS.registry_port}/v2/"
    assert httpx.get(base, headers=bearer, trust_env=False).status_code == 200
    inside = httpx.get(f"{base}{developer.name}/tags/list", headers=bearer, trust_env=False)
    assert inside.status_code == 401, "not even on the registry's own port"
    assert developer.ask("POST", "/registry/token").status_code == 405
    assert developer.ask("GET", "/registry/token?scope=repository:rivers:pull").status_code == 401


def test_a_pull_token_reads_one_repository_and_writes_none(developer: Developer) -> None:
    image = Image()
    developer.upload(*image.blobs)
    developer.push(image.manifest)
    release = developer.app.releases.get()
    place, _, _ = references.pull_of(release).reference.partition("@")
    assert place == f"127.0.0.1:{settings.GRIDAPPS.registry_port}/{developer.name}"
    base = f"http://127.0.0.1:{settings.GRIDAPPS.registry_port}/v2"
    for name, method, path, status in (
        (developer.name, "GET", f"manifests/{release.digest}", 200),
        (developer.name, "POST", "blobs/uploads/", 401),
        (developer.name, "DELETE", f"manifests/{release.digest}", 401),
        ("rivers", "GET", f"manifests/{release.digest}", 401),
    ):
        headers = {"Authorization": f"Bearer {tokens.pull_token(name)}", "Accept": OCI_MANIFEST}
        answer = httpx.request(method, f"{base}/{developer.name}/{path}", headers=headers, trust_env=False)
        assert answer.status_code == status, answer.text


def test_the_database_refuses_a_refusal_without_reasons(developer: Developer) -> None:
    developer.push(b"{}")
    with pytest.raises(IntegrityError), transaction.atomic():
        developer.app.releases.update(reasons=[])
