"""What is attached to a release is kept when it is shared, judged once more, and shown to who may see it."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from django.test import Client

from gridapps.access import operations as access
from gridapps.access.models import User
from gridapps.oci.attachments import SIMPLE_SIGNING
from gridapps.oci.manifests import OCI_MANIFEST
from gridapps.pki.tokens import Registry
from gridapps.promotion import promoting
from gridapps.pushes import references
from gridapps.pushes.registry_client import NotInRegistry, Repository
from gridapps.registry import kept_attachments, sharing
from gridapps.registry.errors import NotShareable
from gridapps.registry.models import Share
from tests.fixtures.cast import Cast
from tests.registry import signing
from tests.registry.built import descriptor, digest
from tests.registry.conftest import Developer, RunningRegistry
from tests.registry.signing import EMPTY, SPDX, attachment, payload, sign, signature, tag_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("both_registries")]
KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


@pytest.fixture
def keys(tmp_path: Path, set_limits: Callable[..., None]) -> Path:
    """The operator's directory of keys, without which nothing is shared."""
    signing.write_public(KEY, tmp_path / "release.pub")
    set_limits(signature_keys=str(tmp_path), require_signature=True)
    return tmp_path


def attach(developer: Developer, manifest: bytes, reference: str, *blobs: bytes) -> str:
    developer.upload(EMPTY, *blobs)
    answer = developer.push(manifest, reference)
    assert answer.status_code == 201, answer.content
    return digest(manifest)


def attach_signature(developer: Developer, release: str, *keys: signing.Private) -> tuple[str, str]:
    """The digests of its manifest and of its payload."""
    content = payload(release)
    manifest = attachment(*(signature(content, sign(key, content)) for key in keys))
    return attach(developer, manifest, tag_of(release), content), digest(content)


def attach_sbom(developer: Developer, release: str) -> tuple[str, bytes]:
    """The digest of its manifest, and the SBOM."""
    sbom = secrets.token_hex(20).encode()
    return attach(developer, attachment(descriptor(sbom, SPDX)), tag_of(release, ".sbom"), sbom), sbom


def shared(cast: Cast, developer: Developer, release: str, tag: str = "city") -> Share:
    access.create_tag(name=tag, by=None)
    access.give_tag(name=tag, users=[cast.analyst], by=None)
    return sharing.share(by=cast.administrator, app_id=developer.name, release=release, access_tag=tag)[0]


def there(developer: Developer, reference: str) -> bool:
    """Whether the trusted registry has this manifest."""
    with references.repository_of(developer.app, Registry.TRUSTED) as repository:
        try:
            return bool(repository.manifest(reference, media_type=OCI_MANIFEST, limit=9))
        except NotInRegistry:
            return False


def ask(user: User, path: str) -> Any:
    client = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
    client.force_login(user)
    return client.get(path)


def test_kept_under_the_tags_where_tools_look_and_under_its_own(
    developer: Developer, cast: Cast, release: str, keys: Path
) -> None:
    signed, _ = attach_signature(developer, release, KEY)
    listed, sbom = attach_sbom(developer, release)
    subject = {"mediaType": OCI_MANIFEST, "digest": release, "size": 9}
    manifest = attachment(descriptor(sbom, SPDX), subject=subject)
    referrer = attach(developer, manifest, digest(manifest), sbom)
    share = shared(cast, developer, release)
    assert promoting.promote(share)
    for reference in (signed, listed, referrer):
        assert there(developer, reference)
        assert there(developer, f"kept-{reference.replace(':', '-')}"), (
            "no garbage collection takes what has a tag"
        )
    assert there(developer, tag_of(release))
    assert there(developer, tag_of(release, ".sbom"))
    with references.repository_of(developer.app, Registry.TRUSTED) as repository:
        assert repository.blob(digest(sbom), limit=999) == sbom
    share.refresh_from_db()
    assert [(each["kind"], each["verified_by"]) for each in share.attachments] == [
        ("signature", "release"), ("sbom", ""), ("sbom", ""),
    ]  # fmt: skip
    assert share.copied == share.size


def test_nothing_is_shared_without_a_valid_signature_by_a_known_key(
    developer: Developer, cast: Cast, release: str, keys: Path
) -> None:
    attach_sbom(developer, release)
    with pytest.raises(NotShareable, match="only what is signed by a key that it knows"):
        shared(cast, developer, release)
    attach_signature(developer, release, OTHER)
    with pytest.raises(NotShareable, match="only what is signed"):
        sharing.share(by=cast.administrator, app_id=developer.name, release=release, access_tag="city")
    # A key that the operator learns of later counts, without another push.
    signing.write_public(OTHER, keys / "other.pem")
    share, _ = sharing.share(by=cast.administrator, app_id=developer.name, release=release, access_tag="city")
    assert [each["verified_by"] for each in share.attachments] == ["", "other"]
    (keys / "broken.pub").write_text("nothing")
    access.create_tag(name="other", by=None)
    with pytest.raises(NotShareable, match=r"broken\.pub is not a public key"):
        sharing.share(by=cast.administrator, app_id=developer.name, release=release, access_tag="other")
    assert not promoting.promote(share)
    share.refresh_from_db()
    assert (share.state, "broken.pub is not a public key" in share.reason) == ("failed", True)


def test_a_key_that_is_removed_before_the_copy_counts_no_more(
    developer: Developer, cast: Cast, release: str, keys: Path
) -> None:
    attach_signature(developer, release, KEY)
    share = shared(cast, developer, release)
    signing.write_public(OTHER, keys / "release.pub")
    assert not promoting.promote(share)
    share.refresh_from_db()
    assert (share.state, share.copied) == ("failed", 0)
    assert "only what is signed by a key that it knows" in share.reason
    assert not there(developer, release)


@pytest.mark.parametrize("part", ["manifest", "payload"])
@pytest.mark.usefixtures("keys")
def test_a_signature_that_is_changed_after_the_push_is_not_promoted(
    developer: Developer, cast: Cast, release: str, developer_registry: RunningRegistry, part: str
) -> None:
    manifest, content = attach_signature(developer, release, KEY)
    share = shared(cast, developer, release)
    path = developer_registry.path(manifest if part == "manifest" else content)
    path.write_bytes(path.read_bytes().replace(b"cosign", b"COSIGN"))
    assert not promoting.promote(share)
    share.refresh_from_db()
    assert share.state == "failed"
    assert (manifest if part == "manifest" else content) in share.reason


def test_a_signature_that_is_replaced_meanwhile_is_not_the_one_that_is_kept(
    developer: Developer, cast: Cast, release: str, keys: Path
) -> None:
    first, _ = attach_signature(developer, release, KEY)
    share = shared(cast, developer, release)
    second, _ = attach_signature(developer, release, OTHER, KEY)
    listed, _ = attach_sbom(developer, release)
    assert promoting.promote(share)
    assert [there(developer, each) for each in (first, second, listed)] == [True, False, False]
    later = shared(cast, developer, release, "roads")
    assert promoting.promote(later), "what came later is kept with the next share"
    assert [there(developer, each) for each in (first, second, listed)] == [True, True, True]
    with references.repository_of(developer.app, Registry.TRUSTED) as repository:
        newest = repository.manifest(tag_of(release), media_type=OCI_MANIFEST, limit=9999)
    assert digest(newest) == second
    share.refresh_from_db()
    assert [each["manifest"] for each in share.attachments] == [first]


def test_a_signature_for_the_same_digest_elsewhere_is_a_signature_for_it(
    developer: Developer, cast: Cast, release: str, keys: Path
) -> None:
    """What is signed is a digest, which is the image, wherever it lies: the reference in it says nothing."""
    content = payload(release, identity={"docker-reference": "grid.example:5443/somebody-elses"})
    attach(developer, attachment(signature(content, sign(KEY, content))), tag_of(release), content)
    assert promoting.promote(shared(cast, developer, release))


def test_who_sees_what_was_kept(
    developer: Developer, cast: Cast, release: str, keys: Path, developer_registry: RunningRegistry
) -> None:
    _, content = attach_signature(developer, release, KEY)
    _, sbom = attach_sbom(developer, release)
    assert promoting.promote(shared(cast, developer, release))
    manifest = attachment(descriptor(b"later", "text/plain"))
    attach(developer, manifest, tag_of(release, ".att"), b"later")
    app, base = (
        f"/api/v3/apps/{developer.name}",
        f"/api/v3/apps/{developer.name}/releases/{release}/attachments",
    )
    kept = [
        {"kind": "signature", "digest": content, "media_type": SIMPLE_SIGNING,
         "size": len(payload(release)), "subject": None, "verified_by": "release"},
        {"kind": "sbom", "digest": digest(sbom), "media_type": SPDX, "size": len(sbom), "subject": None,
         "verified_by": None},
    ]  # fmt: skip
    assert ask(cast.analyst, app).json()["apps"][0]["attachments"] == kept
    assert ask(cast.administrator, f"{app}/shares").json()["shares"][0]["attachments"] == kept
    for user in (cast.developer, cast.administrator):
        (shown,) = ask(user, f"{app}/releases").json()["releases"]
        assert len(shown["attachments"]) == 3
        assert len(ask(user, app).json()["apps"][0]["attachments"]) == 3
    for user, later in ((cast.developer, 200), (cast.administrator, 200), (cast.analyst, 404)):
        answer = ask(user, f"{base}/{digest(sbom)}")
        assert (answer.status_code, answer.content) == (200, sbom)
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["Content-Disposition"].startswith("attachment;")
        assert ask(user, f"{base}/{digest(b'later')}").status_code == later
        page = ask(user, f"/apps/{developer.name}").content.decode()
        assert digest(sbom) in page
        assert (digest(b"later") in page) == (later == 200)
    absent = ask(cast.outsider, f"/api/v3/apps/nothing/releases/{release}/attachments/{digest(sbom)}")
    hidden = ask(cast.outsider, f"{base}/{digest(sbom)}")
    assert (hidden.status_code, hidden.content) == (404, absent.content)
    for wrong in (f"{base}/sha256:abc", f"{base}/{'sha256:' + '0' * 64}", f"{base}/%00", f"{base}/{release}"):
        assert ask(cast.analyst, wrong).status_code == 404
    # What was kept is there when the developer's is gone; what was not kept is gone with it.
    developer_registry.path(digest(sbom)).unlink()
    developer_registry.path(digest(b"later")).unlink()
    assert ask(cast.analyst, f"{base}/{digest(sbom)}").content == sbom
    assert ask(cast.developer, f"{base}/{digest(b'later')}").status_code == 404


def test_what_is_not_the_bytes_of_the_digest_is_not_given_out(
    developer: Developer, cast: Cast, release: str, developer_registry: RunningRegistry
) -> None:
    _, sbom = attach_sbom(developer, release)
    path = f"/api/v3/apps/{developer.name}/releases/{release}/attachments/{digest(sbom)}"
    developer_registry.path(digest(sbom)).write_bytes(b"x" * len(sbom))
    assert ask(cast.developer, path).status_code == 404


def test_a_registry_that_is_away_is_unavailable(
    developer: Developer, cast: Cast, release: str, set_limits: Callable[..., None]
) -> None:
    _, sbom = attach_sbom(developer, release)
    set_limits(registry_port=1)
    answer = ask(
        cast.developer, f"/api/v3/apps/{developer.name}/releases/{release}/attachments/{digest(sbom)}"
    )
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_without_a_setting_signatures_are_kept_and_not_verified(
    developer: Developer, cast: Cast, release: str
) -> None:
    attach_signature(developer, release, KEY)
    share = shared(cast, developer, release)
    assert promoting.promote(share)
    share.refresh_from_db()
    assert [each["verified_by"] for each in share.attachments] == [""]
    assert "not verified" in ask(cast.analyst, f"/apps/{developer.name}").content.decode()
    assert kept_attachments.unsigned([]) == ""
    with Repository(developer.name) as repository:
        assert repository.manifest(tag_of(release), media_type=OCI_MANIFEST, limit=9999)
