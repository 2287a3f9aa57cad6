"""Promotion between two real registries: the same bytes, or a share that says why not."""

import secrets
from collections.abc import Iterable, Iterator

import httpx
import pytest
from django.conf import settings

from gridapps.access.models import AccessTag
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from gridapps.pki import tokens
from gridapps.pki.tokens import Registry
from gridapps.promotion import changes, promoting
from gridapps.promotion.promoter import Promoter
from gridapps.pushes import references
from gridapps.pushes.registry_client import NotInRegistry, Repository, Unavailable
from gridapps.registry import operations, sharing
from gridapps.registry.models import Share
from tests.fixtures.cast import Cast
from tests.fixtures.ports import free_port
from tests.registry.built import Image, config, digest, encoded, entry, index, layer
from tests.registry.conftest import Developer, RunningRegistry

pytestmark = pytest.mark.usefixtures("both_registries")


def pushed(developer: Developer, image: Image, tag: str = "v1") -> str:
    developer.upload(*image.blobs)
    answer = developer.push(image.manifest, tag)
    assert answer.status_code == 201, answer.content
    return digest(image.manifest)


def shared(developer: Developer, cast: Cast, release: str, tag: str = "city") -> Share:
    AccessTag.objects.get_or_create(name=tag)
    new, _ = sharing.share(by=cast.administrator, app_id=developer.name, release=release, access_tag=tag)
    return new


def new_image(size: int = 3 * 2**20) -> Image:
    """An image that no test has pushed before: registries outlive each test's database."""
    return Image(layers=[layer(content=secrets.token_bytes(size)), layer(content=secrets.token_bytes(1000))])


def trusted(developer: Developer) -> Repository:
    return references.repository_of(developer.app, Registry.TRUSTED)


def blobs_in(repository: Repository, image: Image) -> list[bool]:
    found = []
    for blob in image.blobs:
        try:
            found.append(repository.blob_size(digest(blob)) == len(blob))
        except NotInRegistry:
            found.append(False)
    return found


def test_a_promoted_release_is_the_same_bytes(developer: Developer, cast: Cast) -> None:
    image = new_image()
    share = shared(developer, cast, pushed(developer, image))
    assert share.state == "copying"
    assert promoting.promote(share)
    share.refresh_from_db()
    assert (share.state, share.copied) == ("active", share.size)
    assert share.size == sum(map(len, image.blobs)) + len(image.manifest)
    with trusted(developer) as target:
        content = target.manifest(share.release.digest, media_type=OCI_MANIFEST, limit=9999)
        assert content == image.manifest
        for blob in image.blobs:
            with target.reading(digest(blob)) as chunks:
                assert b"".join(chunks) == blob


def test_every_manifest_of_an_index_is_tagged(developer: Developer, cast: Cast) -> None:
    image, other = new_image(), Image(config=encoded(config(architecture="arm64")))
    developer.upload(*image.blobs, *other.blobs)
    for part in (image, other):
        developer.push(part.manifest, digest(part.manifest))
    arm = entry(other.manifest, {"os": "linux", "architecture": "arm64"})
    whole = encoded(index(arm, entry(image.manifest)))
    assert developer.push(whole, media_type=OCI_INDEX).status_code == 201
    assert promoting.promote(shared(developer, cast, digest(whole)))
    name = references.repository_name(developer.app, Registry.TRUSTED)
    signed = tokens.registry_token({name: ["pull"]}, subject="test", registry=Registry.TRUSTED)
    answer = httpx.get(
        f"http://127.0.0.1:{settings.GRIDAPPS.trusted_port}/v2/{name}/tags/list",
        headers={"Authorization": f"Bearer {signed}"}, trust_env=False,
    )  # fmt: skip
    expected = {f"kept-{digest(each).replace(':', '-')}" for each in (whole, image.manifest, other.manifest)}
    assert set(answer.json()["tags"]) == expected


@pytest.mark.parametrize("part", ["manifest", "layer", "shorter", "gone"])
def test_what_was_changed_after_the_push_is_not_promoted(
    developer: Developer, cast: Cast, developer_registry: RunningRegistry, part: str
) -> None:
    image = new_image()
    share = shared(developer, cast, pushed(developer, image))
    victim = image.manifest if part == "manifest" else image.layers[0]
    path = developer_registry.path(digest(victim))
    content = path.read_bytes()
    if part == "gone":
        path.unlink()
    elif part == "manifest":
        path.write_bytes(content.replace(digest(image.layers[0]).encode(), digest(image.config).encode()))
    else:
        path.write_bytes(content[:-1] if part == "shorter" else content[:-1] + bytes([content[-1] ^ 1]))
    assert not promoting.promote(share)
    share.refresh_from_db()
    assert share.state == "failed"
    assert digest(victim) in share.reason
    with trusted(developer) as target:
        assert not blobs_in(target, Image(config=victim, layers=[]))[0]
        with pytest.raises(NotInRegistry):
            target.manifest(share.release.digest, media_type=OCI_MANIFEST, limit=9999)


def test_a_registry_that_never_recovers_is_not_waited_for_for_ever(
    developer: Developer, cast: Cast, developer_registry: RunningRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = new_image(1000)
    share = shared(developer, cast, pushed(developer, image))
    developer_registry.path(digest(image.manifest)).write_bytes(b"not what it was")
    promoter = Promoter()
    for patience, state in ((60, "copying"), (0, "failed")):
        monkeypatch.setattr("gridapps.promotion.promoter.PATIENCE", patience)
        assert not promoter.copy_pending()
        share.refresh_from_db()
        assert (share.state, "500" in share.reason) == (state, True)


def test_a_copy_that_was_cut_off_goes_on_and_copies_nothing_twice(
    developer: Developer, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = new_image()
    share = shared(developer, cast, pushed(developer, image))
    written: list[str] = []
    put_blob = Repository.put_blob

    def counted(self: Repository, name: str, content: Iterable[bytes], *, size: int) -> None:
        put_blob(self, name, content, size=size)
        written.append(name)
        if len(written) == 2:
            raise KeyboardInterrupt  # as sudden as a kill, for what stands after it

    monkeypatch.setattr(Repository, "put_blob", counted)
    with pytest.raises(KeyboardInterrupt):
        promoting.promote(share)
    share.refresh_from_db()
    assert share.state == "copying"
    assert promoting.promote(share)
    assert sorted(written) == sorted(digest(blob) for blob in image.blobs)
    assert Promoter().copy_pending(), "nothing is left to do"


def test_progress_is_visible_and_a_revoked_share_stays_revoked(
    developer: Developer, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoting, "NOTED_EVERY", 0)
    share = shared(developer, cast, pushed(developer, new_image()))
    seen: list[int] = []
    checked = promoting._Copy._checked

    def watched(self: promoting._Copy, chunks: Iterator[bytes], name: str, size: int) -> Iterator[bytes]:
        for chunk in checked(self, chunks, name, size):
            seen.append(Share.objects.get(pk=share.pk).copied)
            if len(seen) == 5:
                sharing.revoke(by=cast.administrator, app_id=developer.name, pk=share.pk)
            yield chunk

    monkeypatch.setattr(promoting._Copy, "_checked", watched)
    assert not promoting.promote(share)
    assert 0 < seen[-1] < share.size
    assert seen == sorted(seen)
    share.refresh_from_db()
    assert share.state == "revoked"


def test_a_registry_that_is_away_is_waited_for(developer: Developer, cast: Cast, set_limits) -> None:
    share = shared(developer, cast, pushed(developer, new_image(1000)))
    here = settings.GRIDAPPS.trusted_port
    set_limits(trusted_port=free_port())
    with pytest.raises(Unavailable):
        promoting.promote(share)
    assert not Promoter().copy_pending()
    share.refresh_from_db()
    assert (share.state, share.reason[:8]) == ("copying", "Waiting:")
    set_limits(trusted_port=here)
    assert Promoter().copy_pending()
    share.refresh_from_db()
    assert (share.state, share.reason) == ("active", "")


def test_a_tag_that_moves_while_it_is_copied_changes_nothing(developer: Developer, cast: Cast) -> None:
    first = pushed(developer, new_image(1000))
    share = shared(developer, cast, "v1")
    pushed(developer, new_image(1000), "v1")
    assert promoting.promote(share)
    share.refresh_from_db()
    assert share.release.digest == first


def test_a_blob_of_another_repository_of_the_trusted_registry_is_not_mounted(
    developer: Developer, cast: Cast
) -> None:
    """What is in the trusted registry under another App's name stays out of a foreign one's reach."""
    image = new_image(1000)
    assert promoting.promote(shared(developer, cast, pushed(developer, image)))
    signed = tokens.registry_token(
        {"grid/other": ["push", "pull"]}, subject="test", registry=Registry.TRUSTED
    )
    query = (
        f"?mount={digest(image.layers[0])}&from={references.repository_name(developer.app, Registry.TRUSTED)}"
    )
    answer = httpx.post(
        f"http://127.0.0.1:{settings.GRIDAPPS.trusted_port}/v2/grid/other/blobs/uploads/{query}",
        headers={"Authorization": f"Bearer {signed}"}, trust_env=False,
    )  # fmt: skip
    assert answer.status_code in (202, 401), "an upload begins, or nothing does, but nothing is mounted"


def test_what_the_newer_release_would_change_is_said(developer: Developer, cast: Cast) -> None:
    same, old, new = layer(content=b"1" * 1000), layer(content=b"2"), layer(content=b"3")
    first = pushed(developer, Image(layers=[same, old], config=with_environment([same, old], "A=1", "B=1")))
    share = shared(developer, cast, first)
    assert promoting.promote(share)
    share.refresh_from_db()
    second = pushed(
        developer, Image(layers=[same, new], config=with_environment([same, new], "B=2", "LD_PRELOAD=/evil"))
    )
    operations.update_app(
        by=cast.developer,
        app_id=developer.name,
        changes={"arguments": {"type": "object", "properties": {"cell": {"type": "number"}}}},
    )
    developer.app.refresh_from_db()
    release = developer.app.releases.get(digest=second)
    found = changes.since(share, app=developer.app, release=release)
    assert found[0] == f"Image: {first[:19]} becomes {second[:19]}."
    assert f"Layers: 1 of 2 are new: {len(new)} bytes." in found
    assert {each for each in found if each.startswith("Environment")} == {
        "Environment A: '1' becomes nothing.",
        "Environment B: '1' becomes '2'.",
        "Environment LD_PRELOAD: nothing becomes '/evil'.",
    }
    assert "Argument schema: added cell." in found
    assert not any(each.startswith(("Entrypoint", "Cmd", "WorkingDir")) for each in found)
    assert (
        changes.since(share, app=developer.app, release=share.release)[-1] == "Argument schema: added cell."
    )


def with_environment(layers: list[bytes], *variables: str) -> bytes:
    """An image configuration with variables."""
    return encoded(config(layers=layers, config={"Entrypoint": ["/program"], "Env": list(variables)}))


def test_no_token_of_one_registry_opens_the_other(developer: Developer, cast: Cast) -> None:
    release = pushed(developer, new_image(1000))
    share = shared(developer, cast, release)
    assert promoting.promote(share)
    own, repository = developer.name, references.repository_name(developer.app, Registry.TRUSTED)
    ports = {
        Registry.DEVELOPER: settings.GRIDAPPS.registry_port,
        Registry.TRUSTED: settings.GRIDAPPS.trusted_port,
    }
    names = {Registry.DEVELOPER: own, Registry.TRUSTED: repository}
    for service, port in ports.items():
        for of in Registry:
            signed = tokens.pull_token(names[service], registry=of)
            answer = httpx.get(
                f"http://127.0.0.1:{port}/v2/{names[service]}/manifests/{release}",
                headers={"Authorization": f"Bearer {signed}", "Accept": OCI_MANIFEST}, trust_env=False,
            )  # fmt: skip
            assert answer.status_code == (200 if of is service else 401), (service, of)


def test_the_pull_credential_of_a_node_writes_nothing(developer: Developer, cast: Cast) -> None:
    share = shared(developer, cast, pushed(developer, new_image(1000)))
    assert promoting.promote(share)
    pull = references.pull_of(share.release, Registry.TRUSTED)
    base = f"http://{pull.reference.partition('@')[0].replace('/grid/', '/v2/grid/')}"
    headers = {"Authorization": f"Bearer {pull.token()}"}
    for method, path in (
        ("POST", "blobs/uploads/"),
        ("PUT", "manifests/v1"),
        ("DELETE", f"manifests/{share.release.digest}"),
    ):
        assert httpx.request(method, f"{base}/{path}", headers=headers, trust_env=False).status_code == 401
