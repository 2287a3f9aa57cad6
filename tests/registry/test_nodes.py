"""Nodes pull with certificates of their own and do nothing else; revoked, they do nothing at all."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from django.conf import settings as django_settings
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from gridapps.pki import membership, tokens
from gridapps.pki.membership import InvalidBundle, Membership
from gridapps.pki.tokens import Registry
from gridapps.pushes import permits, references
from gridapps.pushes.permits import Denied
from gridapps.registry import node_certificates
from gridapps.registry.models import NodeCertificate, Release
from gridapps.registry.node_certificates import InvalidNode
from tests.registry.conftest import Developer

pytestmark = pytest.mark.django_db
DIGEST = "sha256:" + "0" * 64
MEMBER = Membership(node="b", instance="0a1b2c3d", authority="grid.example:5443")


@dataclass
class Node:
    """A node's engine, as nginx would hand its requests on."""

    issued: node_certificates.IssuedToNode

    def ask(self, method: str, path: str, **headers: str) -> Any:
        sent = {
            "X-Client-Certificate": quote(self.issued.pem),
            "Host": django_settings.GRIDAPPS.host,
            **headers,
        }
        return Client().generic(method, path, b"{}", content_type="", headers=sent, secure=True)

    def authorize(self, method: str, uri: str) -> Any:
        asked = {"X-Original-Method": method, "X-Original-URI": uri}
        return self.ask("GET", "/registry/authorize", **asked)


@pytest.fixture
def node() -> Node:
    return Node(node_certificates.issue(by=None, node="b", days=30))


def actions(answer: Any) -> list[str]:
    """What the token in the answer allows."""
    signed = answer["X-Registry-Authorization"].removeprefix("Bearer ")
    (entry,) = jwt.decode(signed, options={"verify_signature": False})["access"]
    return list(entry["actions"])


@pytest.mark.parametrize("what", ["manifests/v1", f"manifests/{DIGEST}", f"blobs/{DIGEST}", "tags/list"])
def test_a_node_pulls_from_every_app(node: Node, developer: Developer, what: str) -> None:
    answer = node.authorize("GET", f"/v2/{developer.name}/{what}")
    assert answer.status_code == 204
    assert actions(answer) == ["pull"]


def test_a_deleted_app_is_pulled_too_because_accepted_runs_go_on(node: Node, developer: Developer) -> None:
    developer.app.deleted_at = timezone.now()
    developer.app.save()
    assert node.authorize("GET", f"/v2/{developer.name}/manifests/{DIGEST}").status_code == 204


def test_an_app_that_is_none_is_refused(node: Node) -> None:
    assert "no App" in node.authorize("GET", "/v2/nothing/tags/list").json()["details"]


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("PUT", "manifests/v1"),
        ("POST", "blobs/uploads/"),
        ("PATCH", "blobs/uploads/5f8b2a5e"),
        ("PUT", "blobs/uploads/5f8b2a5e"),
        ("DELETE", "blobs/uploads/5f8b2a5e"),
        ("DELETE", f"manifests/{DIGEST}"),
    ],
)
def test_a_node_pushes_nothing(node: Node, developer: Developer, method: str, what: str) -> None:
    answer = node.authorize(method, f"/v2/{developer.name}/{what}")
    assert answer.status_code == 401
    if method != "DELETE":
        assert "node b only allows pulls" in answer.json()["details"]


def test_a_manifest_from_a_node_is_refused_by_the_application_too(node: Node, developer: Developer) -> None:
    answer = node.ask("PUT", f"/v2/{developer.name}/manifests/v1")
    assert answer.status_code == 401
    assert not developer.app.releases.exists()


@pytest.mark.parametrize(("asked", "status"), [("pull", 200), ("pull,push", 401), ("push", 401), ("", 401)])
def test_tokens_are_for_pulling(node: Node, developer: Developer, asked: str, status: int) -> None:
    scope = f"repository:{developer.name}:{asked}"
    assert node.ask("GET", f"/registry/token?scope={scope}").status_code == status


@pytest.mark.parametrize("what", [f"manifests/{DIGEST}", f"blobs/{DIGEST}"])
def test_a_node_pulls_what_is_shared_from_the_trusted_registry(
    node: Node, developer: Developer, what: str
) -> None:
    uri = f"/v2/grid/{developer.name}/{what}"
    answer = node.authorize("GET", uri)
    assert answer.status_code == 204
    signed = answer["X-Registry-Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(signed, options={"verify_signature": False})
    assert claims["aud"] == "gridapps-trusted-registry"
    assert claims["access"] == [{"type": "repository", "name": f"grid/{developer.name}", "actions": ["pull"]}]
    assert developer.authorize("GET", uri).status_code == 401
    assert node.authorize("GET", f"/v2/grid/none/{what}").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/grid/{}/blobs/uploads/"),
        ("POST", "/v2/{}/blobs/uploads/?mount=" + DIGEST + "&from=grid/{}"),
        ("POST", "/v2/grid/{}/blobs/uploads/?mount=" + DIGEST + "&from={}"),
        ("PUT", "/v2/grid/{}/manifests/v1"),
        ("DELETE", "/v2/grid/{}/manifests/" + DIGEST),
        ("PUT", "/v2/{}/../grid/{}/manifests/v1"),
        ("PUT", "/v2/grid%2f{}/manifests/v1"),
        ("PUT", "/v2/grid/../{}/manifests/v1"),
        ("PUT", "/v2//grid/{}/manifests/v1"),
        ("PUT", "/v2/Grid/{}/manifests/v1"),
        ("PUT", "/v2/grid/grid/{}/manifests/v1"),
        ("GET", "/v2/grid/{}/manifests/v1/../../../other/manifests/v1"),
    ],
)
def test_nobody_pushes_to_the_trusted_registry(
    node: Node, developer: Developer, method: str, path: str
) -> None:
    for who in (node, developer):
        assert who.authorize(method, path.replace("{}", developer.name)).status_code == 401


def test_a_revocation_acts_at_once_and_on_every_certificate_of_the_node(
    node: Node, developer: Developer
) -> None:
    second, other = (
        Node(node_certificates.issue(by=None, node="b", days=30)),
        Node(node_certificates.issue(by=None, node="c", days=30)),
    )
    uri = f"/v2/{developer.name}/tags/list"
    assert node_certificates.revoke(by=None, node="b") == 2
    assert node_certificates.revoke(by=None, node="b") == 0
    for each in (node, second):
        assert "revoked" in each.authorize("GET", uri).json()["details"]
        assert each.ask("GET", "/registry/token").status_code == 401
    assert other.authorize("GET", uri).status_code == 204


def test_an_expired_certificate_is_refused(node: Node, developer: Developer, monkeypatch) -> None:
    later = timezone.now() + timedelta(days=31)
    clock = type("Clock", (), {"now": staticmethod(lambda _zone: later)})
    monkeypatch.setattr("gridapps.registry.certificates.datetime", clock)
    assert "expired" in node.authorize("GET", f"/v2/{developer.name}/tags/list").json()["details"]


@pytest.mark.parametrize("name", ["", "-b", "B", "a/b", "a" * 64, "b\n"])
def test_names_that_no_node_has(name: str) -> None:
    with pytest.raises(InvalidNode):
        node_certificates.issue(by=None, node=name, days=30)
    with pytest.raises(InvalidNode):
        node_certificates.revoke(by=None, node=name)


def test_a_validity_is_a_span(node: Node) -> None:
    found = NodeCertificate.objects.get(serial=node.issued.certificate.serial)
    found.not_after = found.not_before
    with (
        pytest.raises(IntegrityError, match="node_certificate_validity_is_a_span"),
        transaction.atomic(),
    ):
        found.save()


def test_a_scope_of_a_developer_does_not_grow(developer: Developer, node: Node) -> None:
    with pytest.raises(Denied):
        permits.require_allowed({"rivers": ["pull"]}, certificate=developer.issued.certificate)


def _files(issued: node_certificates.IssuedToNode) -> dict[str, str]:
    return issued.files()


def test_a_bundle_carries_certificates_and_nothing_of_the_instances_own_keys(node: Node) -> None:
    bundle = membership.pack(MEMBER, _files(node.issued))
    member, files = membership.unpack(bundle)
    assert member == MEMBER
    assert {name: content.decode() for name, content in files.items()} == _files(node.issued)
    for secret in ("authority/ca.key", "authority/token.key", "authority/server.key"):
        path = django_settings.DATA / secret
        assert path.read_bytes().splitlines()[1] not in bundle


def test_what_is_no_bundle_is_refused(node: Node) -> None:
    other = node_certificates.issue(by=None, node="c", days=30)
    for bundle in (
        b"",
        b"x" * 2048,
        membership.pack(MEMBER, {**_files(node.issued), "client.key": other.key or ""}),
        membership.pack(MEMBER, {**_files(node.issued), "client.cert": "x"}),
        membership.pack(Membership(node="b", instance="x", authority="../../x:1"), _files(node.issued)),
    ):
        with pytest.raises(InvalidBundle):
            membership.unpack(bundle)


def test_images_are_named_and_authorised_by_where_the_node_is(developer: Developer, settings: Any) -> None:
    release = Release(app=developer.app, digest=DIGEST)
    port = settings.GRIDAPPS.registry_port
    assert references.pull_of(release).reference == f"127.0.0.1:{port}/{developer.name}@{DIGEST}"
    assert (
        jwt.decode(references.pull_of(release).token(), options={"verify_signature": False})["iss"]
        == tokens.ISSUER
    )
    settings.MEMBERSHIP = MEMBER
    assert references.pull_of(release).reference == f"grid.example:5443/{developer.name}@{DIGEST}"
    assert references.pull_of(release).token() == ""
    trusted = references.pull_of(release, Registry.TRUSTED)
    assert trusted.reference == f"grid.example:5443/grid/{developer.name}@{DIGEST}"
