"""A developer with a valid certificate at the registry gateway, against the content of another developer.

tests/registry/test_door.py tries more paths; test_developer_image.py tries images.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gridapps.oci.manifests import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from gridapps.pki.authority import Authority
from tests.attacks.scene import Scene
from tests.attacks.tries import assert_held
from tests.attacks.wire import Wire, request
from tests.registry.built import Image, config, digest, encoded, entry, index


@contextmanager
def door(scene: Scene, name: str) -> Iterator[httpx.Client]:
    """An HTTP client with the certificate of a person."""
    wire = scene.wire(name)
    with httpx.Client(
        base_url=scene.instance.url, verify=wire.context(), trust_env=False, timeout=60
    ) as client:
        yield client


def upload(client: httpx.Client, app: str, blob: bytes) -> None:
    begun = client.post(f"/v2/{app}/blobs/uploads/")
    assert begun.status_code == 202, begun.text
    there = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest(blob)})
    assert client.put(there, content=blob).status_code == 201


def has_blob(client: httpx.Client, app: str, blob: str) -> bool:
    return client.head(f"/v2/{app}/blobs/{blob}").status_code == 200


@pytest.fixture(scope="module")
def secret(scene: Scene) -> bytes:
    """A blob that only erik's App has."""
    content = secrets.token_bytes(1000)
    with door(scene, "erik") as client:
        upload(client, scene.other_app, content)
    return content


# Spellings of another developer's repository that the application and the registry could read differently.
PATHS = [
    "/v2/{theirs}/blobs/{blob}",
    "/v2/{mine}/../{theirs}/blobs/{blob}",
    "/v2/{mine}/..%2f{theirs}/blobs/{blob}",
    "/v2/{mine}/%2e%2e/{theirs}/blobs/{blob}",
    "/v2/{mine}/%2e%2e%2f{theirs}/blobs/{blob}",
    "/v2/{mine}/.%2e/{theirs}/blobs/{blob}",
    "/v2/{mine}%2f..%2f{theirs}/blobs/{blob}",
    "/v2/{mine}%252f..%252f{theirs}/blobs/{blob}",
    "/v2/{mine}/blobs/../../{theirs}/blobs/{blob}",
    "/v2/{mine}/blobs/{blob}/../../../{theirs}/blobs/{blob}",
    "/v2/{mine}/tags/list/../../../{theirs}/blobs/{blob}",
    "/v2/{mine}/manifests/../../{theirs}/blobs/{blob}",
    "/v2/{mine}/..;/{theirs}/blobs/{blob}",
    "/v2/{mine};/../{theirs}/blobs/{blob}",
    "/v2/{mine}\\..\\{theirs}/blobs/{blob}",
    "/v2/{mine}%5c..%5c{theirs}/blobs/{blob}",
    "/v2/{mine}%00/../{theirs}/blobs/{blob}",
    "/v2/{mine}%0a/../{theirs}/blobs/{blob}",
    "/v2/{mine}/{theirs}/blobs/{blob}",
    "/v2/{mine}%2f{theirs}/blobs/{blob}",
    "/v2//{theirs}/blobs/{blob}",
    "//v2/{theirs}/blobs/{blob}",
    "/v2/{theirs}//blobs/{blob}",
    "/v2/./{theirs}/blobs/{blob}",
    "/v2/{theirs}/./blobs/{blob}",
    "/v2/{theirs}%2fblobs%2f{blob}",
    "/v2/{theirs}/blobs%2f{blob}",
    "/v2/{theirs}/%62lobs/{blob}",
    "/v2/%61pp-{rest}/blobs/{blob}",
    "/%762/{theirs}/blobs/{blob}",
    "/v2%2f{theirs}/blobs/{blob}",
    "/V2/{theirs}/blobs/{blob}",
    "/v2/{THEIRS}/blobs/{blob}",
    "/v2/{theirs}/Blobs/{blob}",
    "/v2/{theirs} /blobs/{blob}",
    "/v2/{theirs}%20/blobs/{blob}",
    "/v2/{theirs}./blobs/{blob}",
    "/v2/{theirs}?/v2/{mine}/blobs/{blob}",
    "/v2/{theirs}%3f/v2/{mine}/blobs/{blob}",
    "/v2/{theirs}#/v2/{mine}/blobs/{blob}",
    "/v2/{theirs}/blobs/{blob}?name={mine}",
    "/v2/{theirs}/blobs/{blob}#",
    "/v2/{theirs}/blobs/{blob}/",
    "/v2/{theirs}/blobs/{blob};x",
    "/v2/{theirs}/blobs/{blob}%00",
    "/v2/{theirs}/blobs/{Blob}",
    "/v2/{theirs}/blobs/sha512:{hex}",
    "/v2/{theirs}/blobs/{hex}",
    "/v2/grid/{theirs}/blobs/{blob}",
    "/v2/grid/../{theirs}/blobs/{blob}",
    "/v2/grid/{mine}/../../{theirs}/blobs/{blob}",
    "/v2/library/{theirs}/blobs/{blob}",
    "/v2/localhost/{theirs}/blobs/{blob}",
    "/static/../v2/{theirs}/blobs/{blob}",
    "/login/../v2/{theirs}/blobs/{blob}",
    "/api/v3/..%2f..%2fv2/{theirs}/blobs/{blob}",
    "https://localhost/v2/{theirs}/blobs/{blob}",
    "http://127.0.0.1/v2/{theirs}/blobs/{blob}",
    "/v2/{theirs}/manifests/v1",
    "/v2/{theirs}/manifests/{release}",
    "/v2/{mine}/manifests/../../{theirs}/manifests/v1",
    "/v2/{mine}/manifests/..%2f..%2f{theirs}%2fmanifests%2fv1",
    "/v2/{mine}/manifests/{release}",
    "/v2/grid/{theirs}/manifests/{release}",
    "/v2/{theirs}/tags/list",
    "/v2/{mine}/../{theirs}/tags/list",
    "/v2/{theirs}/tags/list?n=1&last=",
    "/v2/{theirs}/tags/list/",
    "/v2/{theirs}/referrers/{release}",
    "/v2/_catalog",
    "/v2/_catalog?n=100&last={mine}",
    "/v2/{mine}/_catalog",
    "/v2/{mine}/../_catalog",
    "/v2/{mine}/%2e%2e/_catalog",
    "/v2/{mine}/blobs/{blob}",
    "/v2/{mine}/_layers/sha256/{hex}/link",
    "/v2/{mine}/_manifests/tags",
    "/v2/{mine}/_uploads/",
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_path_reads_what_is_anothers(scene: Scene, secret: bytes, method: str) -> None:
    wire = scene.wire("dora")
    blob = digest(secret)
    words = {
        "{mine}": scene.app, "{theirs}": scene.other_app, "{THEIRS}": scene.other_app.upper(),
        "{rest}": scene.other_app.removeprefix("app-"), "{blob}": blob, "{Blob}": blob.upper(),
        "{hex}": blob.removeprefix("sha256:"), "{release}": scene.other_release,
    }  # fmt: skip

    def got_through(path: str) -> object:
        for word, value in words.items():
            path = path.replace(word, value)
        answers = wire.exchange(request(path, method=method), methods=(method,))
        return [(answer.status, answer.body[:80]) for answer in answers if answer.status < 400]

    assert_held(PATHS, got_through)
    own = scene.wire("erik").status(request(f"/v2/{scene.other_app}/blobs/{blob}"))
    assert own == 200, "the owner reads what is tried for"


MOUNTS = [
    "?mount={blob}&from={theirs}",
    "?from={theirs}&mount={blob}",
    "?mount={blob}&from={mine}&from={theirs}",
    "?mount={blob}&from={theirs}&from={mine}",
    "?mount={blob}&from={mine};from={theirs}",
    "?mount={blob}&from={mine};&from={theirs}",
    "?mount={blob}&%66rom={theirs}",
    "?mount={blob}&fro%6d={theirs}",
    "?mount={blob}&FROM={theirs}",
    "?mount={blob}&from[]={theirs}",
    "?mount={blob}&from=%2e%2e/{theirs}",
    "?mount={blob}&from={mine}/../{theirs}",
    "?mount={blob}&from={mine}%2f..%2f{theirs}",
    "?mount={blob}&from={theirs}%00",
    "?mount={blob}&from=%00{theirs}",
    "?mount={blob}&from={theirs}%20",
    "?mount={blob}&from=+{theirs}",
    "?mount={blob}&from=/{theirs}",
    "?mount={blob}&from=localhost/{theirs}",
    "?mount={blob}&from=grid/{theirs}",
    "?mount={blob}&from=",
    "?mount={blob}",
    "?mount={blob}&from=%zz&from={theirs}",
    "?mount={blob}&x=%zz&from={theirs}",
    "?mount={blob}&from={theirs}#",
    "?mount={blob}&from={mine}#&from={theirs}",
    "?&&&&mount={blob}&&&from={theirs}",
    "?a&b&c&d&e&f&g&h&i&mount={blob}&from={theirs}",
    "??mount={blob}&from={theirs}",
    "?mount%3D{blob}%26from%3D{theirs}",
    "?digest={blob}&mount={blob}&from={theirs}",
    "?digest={blob}",
    "?\xc3\xbf&mount={blob}&from={theirs}",
]


def test_no_mount_takes_what_is_anothers(scene: Scene, secret: bytes) -> None:
    words = {"blob": digest(secret), "mine": scene.app, "theirs": scene.other_app}
    wire = scene.wire("dora")
    with door(scene, "dora") as client:

        def got_through(row: tuple[str, str, bytes]) -> object:
            query, kind, body = row
            uri = f"/v2/{scene.app}/blobs/uploads/{query.format(**words)}"
            lines = [f"Content-Type: {kind}"] if kind else []
            status = wire.status(request(uri, *lines, method="POST", body=body), method="POST")
            return (status == 201 or has_blob(client, scene.app, words["blob"])) and status

        form = f"mount={words['blob']}&from={scene.other_app}".encode()
        parts = "".join(
            f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in (("mount", words["blob"]), ("from", scene.other_app))
        ).encode()
        bodies = [
            ("", "application/x-www-form-urlencoded", form),
            (f"?from={scene.app}", "application/x-www-form-urlencoded", form),
            (f"?mount={words['blob']}&from={scene.app}", "application/x-www-form-urlencoded", form),
            ("", "multipart/form-data; boundary=b", parts + b"--b--\r\n"),
            ("", "application/json", json.dumps({"mount": words["blob"], "from": scene.other_app}).encode()),
        ]
        assert_held([*((query, "", b"") for query in MOUNTS), *bodies], got_through)


def test_no_upload_of_another_is_continued(scene: Scene) -> None:
    """Not as it is, not under the attacker's own repository, and not with a changed or invented state."""
    content = b"mine now"
    with door(scene, "erik") as client:
        begun = client.post(f"/v2/{scene.other_app}/blobs/uploads/")
    theirs = begun.headers["Location"]
    path, _, query = theirs.partition("?")
    upload_id = path.rpartition("/")[2]
    with door(scene, "dora") as client:
        mine = client.post(f"/v2/{scene.app}/blobs/uploads/").headers["Location"]
        my_path, _, my_state = mine.partition("?")
        own = f"/v2/{scene.app}/blobs/uploads/{upload_id}"
        forged = _forged_state(scene.app, upload_id)
        places = {
            "as it is": theirs,
            "in one's own repository": f"{own}?{query}",
            "with one's own state": f"{path}?{my_state}",
            "in one's own repository with one's own state": f"{own}?{my_state}",
            "one's own upload with their state": f"{my_path}?{query}",
            "with both states": f"{own}?{my_state}&{query}",
            "without a state": own,
            "with an empty state": f"{own}?_state=",
            "with a state that is no base64": f"{own}?_state=%00",
            "with a state that is signed with nothing": f"{own}?_state={quote(forged)}",
            "with a path in the id": f"/v2/{scene.app}/blobs/uploads/..%2f..%2f{scene.other_app}/{upload_id}",
            "with dots for an id": f"/v2/{scene.app}/blobs/uploads/..?{query}",
        }

        def got_through(place: str) -> object:
            joined = f"{place}{'&' if '?' in place else '?'}digest={quote(digest(content))}"
            for method, uri in (("GET", place), ("PATCH", place), ("PUT", joined), ("DELETE", place)):
                status = client.request(method, uri, content=b"" if method == "GET" else content).status_code
                if status < 400 and (method, place) not in {("GET", own), ("DELETE", own)}:
                    return method, status
            return None

        # An own upload with the state of another one: the state names its own repository and upload.
        assert_held(places, got_through)
    with door(scene, "erik") as client:
        assert client.get(theirs).status_code == 204, "erik's upload goes on"
        assert client.get(theirs).headers["Range"] == "0-0"


def _forged_state(repository: str, upload_id: str) -> str:
    state = json.dumps(
        {"Name": repository, "UUID": upload_id, "Offset": 0, "StartedAt": "2026-01-01T00:00:00Z"}
    ).encode()
    return base64.urlsafe_b64encode(hmac.new(b"", state, hashlib.sha256).digest() + state).decode()


def test_a_state_does_not_claim_what_never_arrived(scene: Scene) -> None:
    """The same upload completed twice, out of order, or under the digest of other content."""
    content = secrets.token_bytes(100)
    with door(scene, "dora") as client:
        place = client.post(f"/v2/{scene.app}/blobs/uploads/").headers["Location"]
        after = client.patch(place, content=content).headers["Location"]
        for other in (b"", b"other", content[:-1]):
            there = httpx.URL(after).copy_merge_params({"digest": digest(other)})
            assert client.put(there).status_code in {400, 404}
            assert not has_blob(client, scene.app, digest(other)) or other == b""
        assert not has_blob(client, scene.app, digest(content))


def _methods() -> list[tuple[str, str]]:
    places = [
        "/v2/{theirs}/manifests/v1", "/v2/{theirs}/manifests/{release}", "/v2/{theirs}/blobs/{blob}",
        "/v2/{theirs}/blobs/uploads/", "/v2/{theirs}/tags/list", "/v2/{mine}/manifests/v1",
        "/v2/{mine}/blobs/{own}", "/v2/grid/{mine}/manifests/v1", "/v2/grid/{mine}/blobs/uploads/",
        "/v2/grid/{theirs}/manifests/v1", "/v2/grid/x/manifests/v1", "/v2/_catalog", "/v2/{mine}/tags/list",
    ]  # fmt: skip
    methods = [
        "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "MOVE", "COPY", "PROPFIND", "PUrGE",
    ]  # fmt: skip
    return [(method, place) for place in places for method in methods]


def test_nothing_that_is_stored_is_changed_or_deleted(scene: Scene, secret: bytes) -> None:
    wire = scene.wire("dora")
    words = {
        "mine": scene.app, "theirs": scene.other_app, "release": scene.other_release, "own": scene.release,
        "blob": digest(secret),
    }  # fmt: skip

    def got_through(row: tuple[str, str]) -> object:
        method, place = row
        sent = request(place.format(**words), f"Content-Type: {OCI_MANIFEST}", method=method, body=b"{}")
        answers = wire.exchange(sent, methods=(method,))
        return [answer.status for answer in answers if answer.status < 400]

    assert_held(_methods(), got_through)
    with door(scene, "erik") as client:
        manifest = client.get(f"/v2/{scene.other_app}/manifests/v1", headers={"Accept": _ANY})
        assert digest(manifest.content) == scene.other_release
    with door(scene, "dora") as client:
        manifest = client.get(f"/v2/{scene.app}/manifests/v1", headers={"Accept": _ANY})
        assert digest(manifest.content) == scene.release


_ANY = ", ".join((OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX))


def _confusions() -> dict[str, tuple[str, str, bytes]]:
    """Content-Type, reference and manifest that two readers could take for different kinds."""
    image = Image()
    document = image.document
    other = encoded({**document, "annotations": {"x": "y"}})
    as_index = encoded(index(entry(image.manifest)))
    docker = encoded({**document, "mediaType": DOCKER_MANIFEST})
    v1 = encoded({"schemaVersion": 1, "name": "x", "tag": "v1", "fsLayers": [], "history": []})
    v1_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    both = encoded({**document, "manifests": json.loads(as_index)["manifests"]})
    doubled = image.manifest.replace(b'"layers":', b'"layers": [], "layers":', 1)
    cased = image.manifest.replace(b'"layers":', b'"Layers": [], "layers":', 1)
    long = image.manifest.replace(b'"layers":', b'"layer\\u017f": [], "layers":', 1)
    return {
        "a manifest sent as an index": (OCI_INDEX, "confused", image.manifest),
        "an index sent as a manifest": (OCI_MANIFEST, "confused", as_index),
        "a docker manifest sent as OCI": (OCI_MANIFEST, "confused", docker),
        "an OCI manifest sent as docker's": (DOCKER_MANIFEST, "confused", image.manifest),
        "a docker index sent as a manifest": (
            DOCKER_MANIFEST, "confused", encoded({**json.loads(as_index), "mediaType": DOCKER_INDEX}),
        ),
        "schema version 1": (v1_type, "confused", v1),
        "schema version 1 as OCI": (OCI_MANIFEST, "confused", v1),
        "both at once": (OCI_MANIFEST, "confused", both),
        "both at once, as an index": (OCI_INDEX, "confused", both),
        "two lists of layers": (OCI_MANIFEST, "confused", doubled),
        "layers in another case": (OCI_MANIFEST, "confused", cased),
        "layers with a long s": (OCI_MANIFEST, "confused", long),
        "no Content-Type": ("", "confused", image.manifest),
        "a Content-Type of text": ("text/plain", "confused", image.manifest),
        "a Content-Type with a comma": (f"{OCI_MANIFEST}, {OCI_INDEX}", "confused", image.manifest),
        "two documents": (OCI_MANIFEST, "confused", image.manifest + image.manifest),
        "a byte order mark": (OCI_MANIFEST, "confused", b"\xef\xbb\xbf" + image.manifest),
        "UTF-16": (OCI_MANIFEST, "confused", image.manifest.decode().encode("utf-16")),
        "bytes behind it": (OCI_MANIFEST, "confused", image.manifest + b"\0"),
        "a comment": (OCI_MANIFEST, "confused", b"/* */" + image.manifest),
        "NaN": (OCI_MANIFEST, "confused", image.manifest[:-1] + b', "x": NaN}'),
        "another digest as the reference": (OCI_MANIFEST, digest(other), image.manifest),
        "its digest in upper case": (OCI_MANIFEST, digest(image.manifest).upper(), image.manifest),
        "sha512 as the reference": (
            OCI_MANIFEST, f"sha512:{hashlib.sha512(image.manifest).hexdigest()}", image.manifest,
        ),
        "a tag that looks like a digest": (OCI_MANIFEST, "sha256:abc", image.manifest),
        "a tag of dots": (OCI_MANIFEST, "..", image.manifest),
        "a tag with a slash": (OCI_MANIFEST, "v1%2fx", image.manifest),
        "a tag of 129 characters": (OCI_MANIFEST, "t" * 129, image.manifest),
        "a tag with NUL": (OCI_MANIFEST, "v1%00", image.manifest),
        "an empty manifest": (OCI_MANIFEST, "confused", b""),
        "a list": (OCI_MANIFEST, "confused", b"[]"),
        "very deep": (OCI_MANIFEST, "confused", b'{"a":' * 100_000),
        "a blob that is another's": (OCI_MANIFEST, "confused", b"{foreign}"),
    }  # fmt: skip


def test_a_manifest_is_one_thing_to_everybody(scene: Scene, secret: bytes) -> None:
    foreign = Image(layers=[secret], config=encoded(config(layers=[secret])))
    rows = _confusions()
    kind, reference, _ = rows["a blob that is another's"]
    rows["a blob that is another's"] = (kind, reference, foreign.manifest)
    with door(scene, "dora") as client:
        for blob in [*Image().blobs, foreign.config]:
            upload(client, scene.app, blob)

        def got_through(row: tuple[str, str, bytes]) -> object:
            kind, reference, manifest = row
            answer = client.put(
                f"/v2/{scene.app}/manifests/{reference}", content=manifest,
                headers={"Content-Type": kind} if kind else {},
            )  # fmt: skip
            refused = answer.status_code in {400, 401, 404, 405} and "Traceback" not in answer.text
            return not refused and (answer.status_code, answer.text)

        assert_held(rows, got_through)
        there = client.get(f"/v2/{scene.app}/manifests/confused", headers={"Accept": _ANY})
        assert there.status_code == 404
        image = Image()  # the same image in its correct form is accepted
        sent = client.put(
            f"/v2/{scene.app}/manifests/plain",
            content=image.manifest,
            headers={"Content-Type": OCI_MANIFEST},
        )
        assert sent.status_code == 201, sent.text


def test_one_manifest_has_one_content_for_every_accept_header(scene: Scene) -> None:
    """The registry turns a tag's schema 2 into schema 1 for old clients; a digest's content stays."""
    kinds = [
        OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX, "*/*", "", "text/html", "application/json",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        f"{OCI_MANIFEST};q=0, */*",
    ]  # fmt: skip
    with door(scene, "dora") as client:

        def got_through(kind: str) -> object:
            answer = client.get(f"/v2/{scene.app}/manifests/{scene.release}", headers={"Accept": kind})
            same = answer.status_code == 200 and digest(answer.content) == scene.release
            return not same and answer.status_code not in {400, 404, 406} and answer.text

        assert_held(kinds, got_through)


def _scopes(scene: Scene) -> list[str]:
    theirs, mine = scene.other_app, scene.app
    return [
        f"repository:{theirs}:pull", f"repository:{theirs}:push", f"repository:{mine}:delete",
        f"repository:{mine}:*", f"repository:{mine}:pull,push,delete", f"repository:{mine},{theirs}:pull",
        f"repository:{mine}:pull%20repository:{theirs}:pull", f"repository:grid/{mine}:push",
        f"repository:grid/{mine}:pull", f"repository:{mine}/../{theirs}:pull", "registry:catalog:*",
        "repository:*:pull", "repository::pull", "repository:%00:pull", f"repository(plugin):{mine}:pull",
        f"registry:{mine}:pull", "x", ":", "::", f"repository:{theirs.upper()}:pull",
        "%20".join(f"repository:{mine}:pull" for _ in range(11)),
    ]  # fmt: skip


def test_no_scope_gives_more(scene: Scene) -> None:
    with door(scene, "dora") as client:

        def got_through(scope: str) -> object:
            answer = client.get(f"/registry/token?scope={scope}")
            return answer.status_code != 401 and answer.text

        assert_held(_scopes(scene), got_through)
        # The token that it issues opens only the bare /v2/, whatever scope was requested.
        granted = client.get(f"/registry/token?scope=repository:{scene.app}:pull,push").json()["token"]
        assert jwt.decode(granted, options={"verify_signature": False})["access"] == []


def _tokens(scene: Scene) -> dict[str, str]:
    """Registry tokens that the instance did not issue, or issued for another purpose."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = (scene.instance.data / "authority" / "token.crt").read_bytes()
    certificate = x509.load_pem_x509_certificate(public)
    leaf = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    ours = base64.b64encode(_self_signed(key).public_bytes(serialization.Encoding.DER)).decode()
    now = int(time.time())
    claims = {
        "iss": "gridapps", "aud": "gridapps-registry", "sub": "x", "iat": now, "nbf": now - 5,
        "exp": now + 60, "jti": "x",
        "access": [{"type": "repository", "name": scene.app, "actions": ["pull", "push"]}],
    }  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    unsigned = _part({"alg": "none", "typ": "JWT"}) + "." + _part(claims) + "."
    by_public = _part({"alg": "HS256", "typ": "JWT", "x5c": [leaf]}) + "." + _part(claims)
    mac = hmac.new(public, by_public.encode(), hashlib.sha256).digest()
    good = (scene.instance.data / "authority" / "token.key").read_text()

    def signed(changes: dict[str, object], head: dict[str, object] | None = None, by: str = good) -> str:
        return jwt.encode({**claims, **changes}, by, algorithm="ES256", headers=head or {"x5c": [leaf]})

    return {
        "alg none": unsigned,
        "alg None": _part({"alg": "None"}) + "." + _part(claims) + ".",
        "HS256 with the public certificate": f"{by_public}.{_bytes(mac)}",
        "a key of one's own in x5c": signed({}, {"x5c": [ours]}, private),
        "a key of one's own, with ours in x5c": signed({}, {"x5c": [leaf]}, private),
        "a key of one's own before ours": signed({}, {"x5c": [ours, leaf]}, private),
        "a key of one's own in jwk": signed({}, {"jwk": _jwk(key)}, private),
        "a key id": signed({}, {"kid": "../../../../dev/null"}, private),
        "a key from an address": signed({}, {"jku": "https://evil.example/jwks"}, private),
        "expired": signed({"exp": now - 120, "nbf": now - 200}),
        "not valid yet": signed({"nbf": now + 600, "exp": now + 700}),
        "for the other registry": signed({"aud": "gridapps-trusted-registry"}),
        "from another issuer": signed({"iss": "evil"}),
        "the API's token": scene.dora.token,
    }


def _part(value: object) -> str:
    return _bytes(json.dumps(value).encode())


def _bytes(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    x, y = (_bytes(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def _self_signed(key: ec.EllipticCurvePrivateKey, *, name: str = "Registry tokens") -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1))
    return builder.not_valid_after(now + timedelta(days=30)).sign(key, hashes.SHA256())


def test_the_registries_take_the_instances_own_tokens_alone(scene: Scene) -> None:
    """Requests go to the loopback ports, which local processes reach without nginx and the application."""
    path = f"/v2/{scene.app}/tags/list"
    port = scene.instance.settings["GRIDAPPS_REGISTRY_PORT"]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as straight:

        def got_through(token: str) -> object:
            answer = straight.get(path, headers={"Authorization": f"Bearer {token}"})
            return answer.status_code != 401 and answer.text

        assert_held(_tokens(scene), got_through)
        with scene.instance.client() as client:

            def got_through_nginx(token: str) -> object:
                answer = client.get("/v2/", headers={"Authorization": f"Bearer {token}"})
                return answer.status_code != 401 and answer.text

            assert_held(_tokens(scene), got_through_nginx)


def _certificates(scene: Scene, home: Path) -> dict[str, Path]:
    """Directories with certificates that imitate dora's."""
    key = ec.generate_private_key(ec.SECP256R1())
    real = scene.dora.certificate()
    name = x509.load_pem_x509_certificate((real / "client.cert").read_bytes()).subject
    text = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made = {
        "signed by itself": _self_signed(key, name=str(text)).public_bytes(pem),
        "of another authority of the same name": Authority.create_or_load(home / "authority", host="x")
        .issue_client(key=key.public_key(), common_name=str(text), days=10)
        .public_bytes(pem),
    }
    directories = {}
    for number, (what, certificate) in enumerate(made.items()):
        directory = home / str(number)
        directory.mkdir()
        (directory / "client.cert").write_bytes(certificate)
        (directory / "client.key").write_bytes(private)
        directories[what] = directory
    return directories


def test_a_certificate_that_looks_like_one_is_none(scene: Scene, tmp_path: Path) -> None:
    def got_through(directory: Path) -> object:
        wire = Wire(scene.instance, directory)
        for path in (f"/v2/{scene.app}/tags/list", f"/registry/token?scope=repository:{scene.app}:pull"):
            answers = wire.exchange(request(path))
            if answers and answers[0].status not in {400, 401}:
                return path, answers
        return None

    assert_held(_certificates(scene, tmp_path), got_through)


def test_a_certificate_opens_the_registry_and_nothing_else(scene: Scene) -> None:
    with door(scene, "dora") as client:

        def got_through(path: str) -> object:
            answer = client.get(path)
            return answer.status_code not in {401, 302} and answer.text

        assert_held(["/api/v3/me", "/api/v3/apps", "/settings", "/admin/access/user/"], got_through)


def test_a_developer_administers_nothing(scene: Scene) -> None:
    """A developer tries the calls of administrators, on an own App and on one of another developer."""
    rows = []
    for app in (scene.app, scene.other_app):
        rows += [
            ("POST", f"/apps/{app}/shares", {"access_tag": "surveyors", "release": "v1"}),
            ("DELETE", f"/apps/{app}/shares/{scene.share}", None),
            ("PUT", f"/apps/{app}/block", {"reason": "x"}),
            ("DELETE", f"/apps/{app}/block", None),
        ]
    rows.append(("GET", "/audit", None))

    def got_through(row: tuple[str, str, object]) -> object:
        method, path, body = row
        with scene.dora.client() as client:
            answer = client.request(method, f"/api/v3{path}", json=body)
        return answer.status_code not in {403, 404, 405} and (answer.status_code, answer.text)

    assert_held(rows, got_through)


NAMES = [
    "grid", "manifests", "blobs", "uploads", "tags", "v2", "internal", "static", "_catalog", "..", ".",
    "a/b", "a%2fb", "A", "-a", "a_b", "a b", "a\0b", "", "a" * 64, "\u0430pp", "app\n", "library/app",
    "a:b", "a@b", "a;b", "a?b", "a#b", "a\\b",
]  # fmt: skip


def test_app_ids_that_are_no_repositories(scene: Scene) -> None:
    """An app-id is the name of a repository, so it cannot be a word that is another path of the registry."""

    def got_through(name: str) -> object:
        with scene.dora.client() as client:
            answer = client.post(
                "/api/v3/apps",
                json={
                    "id": name, "title": "x", "description": "", "arguments": {"type": "object"},
                    "resources": {"cpus": 1, "memory": 2**26, "disk": 2**24, "time": 60},
                },
            )  # fmt: skip
        return answer.status_code != 400 and (answer.status_code, answer.text)

    assert_held(NAMES, got_through)


def test_the_audit_is_told_what_was_asked_and_not_what_a_header_says(scene: Scene) -> None:
    begun = datetime.now(UTC).isoformat()
    forged = f"/v2/{uuid.uuid4().hex}/manifests/v1"
    with door(scene, "erik") as client:
        answer = client.put(
            f"/v2/{scene.app}/manifests/asked", content=b"{}",
            headers={"Content-Type": OCI_MANIFEST, "X-Original-URI": forged},
        )  # fmt: skip
        assert answer.status_code == 401
    entries = scene.admin.ask("GET", "/audit", params={"since": begun, "event": "refused"}).json()["entries"]
    assert [entry["details"]["asked"] for entry in entries] == [f"/v2/{scene.app}/manifests/asked"]
