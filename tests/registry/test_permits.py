"""What the developer registry may be asked: a closed grammar, and only for Apps of one's own."""

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from gridapps.access.models import Developer as Verification
from gridapps.pushes import permits
from gridapps.pushes.permits import Denied
from gridapps.registry import certificates, operations
from gridapps.registry.models import App
from tests.fixtures.cast import Cast
from tests.registry.conftest import Developer

DIGEST = "sha256:" + "0" * 64
UPLOAD = "5f8b2a5e-7d1c-4e3b-9f57-0e2b8b3f9a11"


@pytest.mark.parametrize(
    ("method", "uri", "actions"),
    [
        ("GET", "/v2/roads/manifests/v1", ["pull"]),
        ("HEAD", f"/v2/roads/manifests/{DIGEST}", ["pull"]),
        ("PUT", "/v2/roads/manifests/v1", []),
        ("HEAD", f"/v2/roads/blobs/{DIGEST}", ["pull"]),
        ("GET", f"/v2/roads/blobs/{DIGEST}?x=1", ["pull"]),
        ("POST", "/v2/roads/blobs/uploads/", ["push", "pull"]),
        ("PATCH", f"/v2/roads/blobs/uploads/{UPLOAD}?_state=abc-_=", ["push", "pull"]),
        ("PUT", f"/v2/roads/blobs/uploads/{UPLOAD}?_state=a&digest=sha256%3A00", ["push", "pull"]),
        ("DELETE", f"/v2/roads/blobs/uploads/{UPLOAD}", ["delete"]),
        ("GET", "/v2/roads/tags/list?n=10", ["pull"]),
        ("GET", f"/v2/roads/referrers/{DIGEST}?artifactType=application%2Fspdx", ["pull"]),
    ],
)
def test_requests_of_a_push_or_pull(method: str, uri: str, actions: list[str]) -> None:
    assert {name: list(may) for name, may in permits.access_for_request(method=method, uri=uri).items()} == {
        "roads": actions
    }


def test_a_mount_needs_both_repositories() -> None:
    access = permits.access_for_request(
        method="POST", uri=f"/v2/roads/blobs/uploads/?mount={DIGEST}&from=rivers&from=%6cakes"
    )
    assert access == {"rivers": ("pull",), "lakes": ("pull",), "roads": ("push", "pull")}


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/"),
        ("DELETE", "/v2/roads/manifests/v1"),
        ("DELETE", f"/v2/roads/blobs/{DIGEST}"),
        ("POST", "/v2/roads/manifests/v1"),
        ("PATCH", "/v2/roads/manifests/v1"),
        ("OPTIONS", "/v2/roads/manifests/v1"),
        ("put", "/v2/roads/manifests/v1"),
        ("GET", "/v2/roads/blobs/uploads/"),
        ("GET", "/v2/roads/../rivers/tags/list"),
        ("GET", "/v2/roads/blobs/uploads/../../../rivers/tags/list"),
        ("GET", "/v2/roads%2f..%2frivers/tags/list"),
        ("GET", "/v2/%72oads/tags/list"),
        ("GET", "/v2/Roads/tags/list"),
        ("GET", "/v2/roads/rivers/tags/list"),
        ("GET", "/v2//roads/tags/list"),
        ("GET", "//v2/roads/tags/list"),
        ("GET", "/v2/roads/tags/list/"),
        ("GET", "/v2/roads/tags/list\n"),
        ("GET", "/v2/roads/tags/list#/../x"),
        ("GET", "/v2/roads/manifests/.."),
        ("GET", "/v2/roads/manifests/" + "a" * 129),
        ("GET", "/v2/roads/manifests/sha512:" + "0" * 128),
        ("GET", "/v2/roads/referrers/" + DIGEST[:-1]),
        ("GET", "/v2/roads/referrers/v1"),
        ("PUT", "/v2/roads/referrers/" + DIGEST),
        ("GET", "https://elsewhere.example/v2/roads/tags/list"),
        ("POST", "/v2/roads/blobs/uploads/?from=%ff"),
        ("POST", "/v2/roads/blobs/uploads/?" + "&".join("a=1" for _ in range(9))),
        ("GET", "/v2/roads/tags/list?" + "a" * 5000),
        ("", ""),
    ],
)
def test_everything_else_is_denied(method: str, uri: str) -> None:
    with pytest.raises(Denied):
        permits.access_for_request(method=method, uri=uri)


@given(method=st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE"]), tail=st.text(max_size=40))
def test_what_is_granted_is_for_the_name_that_the_path_begins_with(method: str, tail: str) -> None:
    try:
        access = permits.access_for_request(method=method, uri=f"/v2/roads/{tail}")
    except Denied:
        return
    path = tail.partition("?")[0]
    assert "roads" in access
    assert not {"%", "..", "//", "\\"} & {
        path[start:end] for start in range(len(path)) for end in (start + 1, start + 2)
    }


def test_scopes_of_a_token() -> None:
    asked = ["repository:roads:push,pull repository:rivers:pull", "repository:rivers:push"]
    assert permits.access_for_scopes(asked) == {"roads": ["pull", "push"], "rivers": ["pull", "push"]}
    assert permits.access_for_scopes([]) == {}


@pytest.mark.parametrize(
    "scope",
    [
        "registry:catalog:*",
        "repository:roads:*",
        "repository:roads:delete",
        "repository:roads:pull,delete",
        "repository(plugin):roads:pull",
        "repository::pull",
        "repository:roads",
        "roads",
        " ".join(["repository:roads:pull"] * 11),
    ],
)
def test_scopes_that_nobody_gets(scope: str) -> None:
    with pytest.raises(Denied):
        permits.access_for_scopes([scope])


def test_foreign_deleted_and_absent_apps_look_the_same(developer: Developer, cast: Cast) -> None:
    certificate = developer.issued.certificate
    assert permits.require_allowed({developer.name: ["pull"]}, certificate=certificate) == [developer.app]
    texts = set()
    for change in ("foreign", "deleted", "absent"):
        if change == "foreign":
            developer.app.owner = cast.analyst
        if change == "deleted":
            developer.app.owner = cast.developer
            developer.app.deleted_at = developer.app.created_at
        developer.app.save()
        if change == "absent":
            developer.app.delete()
        with pytest.raises(Denied) as raised:
            permits.require_allowed({developer.name: ["pull"]}, certificate=certificate)
        texts.add(str(raised.value))
    assert len(texts) == 1


def test_one_foreign_repository_spoils_all(developer: Developer) -> None:
    with pytest.raises(Denied, match="rivers"):
        permits.require_allowed(
            {developer.name: ["pull"], "rivers": ["pull"]}, certificate=developer.issued.certificate
        )


@pytest.mark.parametrize("names", [["grid/roads"], ["grid/roads", "grid/rivers"]])
def test_an_administrator_pulls_from_the_trusted_registry(cast: Cast, names: list[str]) -> None:
    """To verify the signatures of copies. No other user may, and nothing else is possible there."""
    for name in ("roads", "rivers"):
        operations.create_app(by=cast.developer, app_id=name, title=name)
    pull, push = dict.fromkeys(names, permits.PULL), dict.fromkeys(names, permits.PUSH)
    own = certificates.issue(user=cast.developer, name="laptop").certificate
    Verification.objects.create(
        user=cast.administrator,
        state="verified",
        statement="verifies",
        decided_at=timezone.now(),
        decided_by=cast.administrator,
    )
    theirs = certificates.issue(user=cast.administrator, name="laptop").certificate
    found = permits.require_allowed(pull, certificate=theirs)
    assert [f"grid/{app}" for app in found] == names
    App.objects.update(deleted_at=timezone.now())
    assert permits.require_allowed(pull, certificate=theirs) == found, "copies outlive their App"
    none: permits.Access = dict.fromkeys(names, ())
    for access in (push, none, pull | {"roads": permits.PULL}, {"grid/roads": ("delete",)}):
        with pytest.raises(Denied, match="has no App"):
            permits.require_allowed(access, certificate=theirs)
    with pytest.raises(Denied, match="There is no App 'lakes'"):
        permits.require_allowed({"grid/lakes": permits.PULL}, certificate=theirs)
    with pytest.raises(Denied, match="has no App 'grid/roads'"):
        permits.require_allowed(pull, certificate=own)
    cast.outsider.is_superuser = True
    cast.outsider.save()
    theirs.user.is_superuser = False
    theirs.user.save()
    with pytest.raises(Denied, match="has no App 'grid/roads'"):
        permits.require_allowed(pull, certificate=theirs)
