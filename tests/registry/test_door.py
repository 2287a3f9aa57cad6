"""nginx as the door of an instance: what strangers send as a developer's certificate or path gets nowhere."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import uuid
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from gridapps.config.environment import Environment
from gridapps.oci.manifests import OCI_MANIFEST
from gridapps.pki.authority import Authority
from gridapps.server import distribution, nginx
from tests.fixtures.instance import Instance
from tests.registry.built import Image, digest
from tests.registry.places import Place, context, door, new_place, upload

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def place(instance: Instance) -> Place:
    return new_place(instance)


@pytest.fixture(scope="module")
def other(instance: Instance) -> Place:
    """Another developer, with an App and a blob in it."""
    made = new_place(instance)
    with door(made) as client:
        upload(client, made, Image().blobs[0])
    return made


def raw(place: Place, request: str) -> int:
    """Send the bytes of a request, as no library would, with the certificate; the answer's status."""
    host, port = (
        place.instance.settings.get("GRIDAPPS_HOST", "localhost"),
        place.instance.settings["GRIDAPPS_PORT"],
    )
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context(place).wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(request.encode("latin-1"))
        answer = secure.recv(65536).decode("latin-1")
    found = re.match(r"HTTP/1\.1 (\d{3}) ", answer)
    assert found, answer
    return int(found[1])


def sentence(answer: httpx.Response, status: int = 401) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert body["errors"][0]["message"] == body["details"]
    return str(body["details"])


def test_clients_begin_at_a_401_that_names_the_realm(place: Place) -> None:
    with door(place, certificate=False) as client:
        answer = client.get("/v2/")
    assert answer.status_code == 401
    assert f'realm="{place.instance.url}/registry/token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "header",
    ["X-Client-Certificate", "X_Client_Certificate", "x-client-certificate", "X-SSL-Client-Cert",
     "SSL_CLIENT_CERT", "X-Forwarded-Client-Cert"],
)  # fmt: skip
def test_a_certificate_in_a_header_is_none(place: Place, header: str) -> None:
    forged = {header: quote((place.developer.certificate() / "client.cert").read_text())}
    with door(place, certificate=False) as client:
        for path in (f"/v2/{place.app}/tags/list", f"/registry/token?scope=repository:{place.app}:pull"):
            assert "no client certificate" in sentence(client.get(path, headers=forged))
        pushed = client.put(f"/v2/{place.app}/manifests/v1", content=b"{}", headers=forged)
        assert "no client certificate" in sentence(pushed)


def test_ones_own_certificate_is_no_cover_for_another_in_a_header(place: Place, other: Place) -> None:
    forged = {
        "X-Client-Certificate": quote((other.developer.certificate() / "client.cert").read_text()),
        "X-Original-URI": f"/v2/{place.app}/tags/list",
        "X-Original-Method": "GET",
    }
    with door(place) as client:
        answer = client.get(f"/v2/{other.app}/blobs/{digest(Image().blobs[0])}", headers=forged)
    assert f"has no App '{other.app}'" in sentence(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/registry/authorize",
        "/internal/authorize",
        "/internal/outputs/",
        "//registry/authorize",
        "/%72egistry/authorize",
        "/%2572egistry/authorize",
        "/x/../registry/authorize",
        "/registry/token/",
    ],
)
def test_the_judgement_itself_is_not_reachable(place: Place, path: str) -> None:
    asked = f"X-Original-URI: /v2/{place.app}/tags/list\r\nX-Original-Method: GET\r\n"
    assert raw(place, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{asked}\r\n") == 404


def test_a_token_is_worth_nothing_without_the_certificate(place: Place) -> None:
    with door(place) as client:
        token = client.get(f"/registry/token?scope=repository:{place.app}:pull,push").json()["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.get("/v2/", headers=bearer).status_code == 200
    with door(place, certificate=False) as client:
        answer = client.get(f"/v2/{place.app}/tags/list", headers=bearer)
        assert "no client certificate" in sentence(answer)


def test_a_revocation_acts_on_an_open_connection(place: Place) -> None:
    certificates, serial = place.issue()
    secure = ssl.create_default_context(cafile=str(place.instance.ca))
    secure.load_cert_chain(certificates / "client.cert", certificates / "client.key")
    with httpx.Client(base_url=place.instance.url, verify=secure, trust_env=False) as client:
        begun = client.post(f"/v2/{place.app}/blobs/uploads/")
        assert begun.status_code == 202
        place.developer.ask("DELETE", f"/developer/certificates/{serial}", expect=204)
        assert "was revoked on" in sentence(client.patch(begun.headers["Location"], content=b"more"))


PATHS = [
    "/v2/_catalog",
    "/v2/{mine}/../{theirs}/blobs/{blob}",
    "/v2/{mine}/%2e%2e/{theirs}/blobs/{blob}",
    "/v2/{mine}%2f..%2f{theirs}/blobs/{blob}",
    "/v2/{mine}/..%2f{theirs}/blobs/{blob}",
    "/v2/{mine}/./../{theirs}/blobs/{blob}",
    "//v2//{theirs}//blobs/{blob}",
    "/v2/{theirs}/blobs/{blob}?x=/v2/{mine}/",
    "/v2/{theirs}/blobs/{blob}#/../../../{mine}",
    "/static/../v2/{theirs}/blobs/{blob}",
    "/api/v3/../../v2/{theirs}/blobs/{blob}",
    "/V2/{theirs}/blobs/{blob}",
    "https://localhost/v2/{theirs}/blobs/{blob}",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_anothers_blob(place: Place, other: Place, path: str) -> None:
    words = {"mine": place.app, "theirs": other.app, "blob": digest(Image().blobs[0])}
    line = f"GET {path.format(**words)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert raw(place, line) in {400, 401, 404}
    straight = PATHS[1].replace("{mine}/../", "").format(**words)
    assert raw(other, f"GET {straight} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v2/{mine}/manifests/v1/",
        "/v2/{mine}/manifests%2fv1",
        "/v2/{mine}/%6danifests/v1",
        "/v2/{mine}//manifests/v1",
        "/v2/{mine}/blobs/uploads/../../manifests/v1",
        "/v2/{mine}/manifests/x/../v1",
        "//v2/{mine}/manifests/v1",
    ],
)
def test_no_path_leads_around_the_judgement_of_a_manifest(place: Place, path: str) -> None:
    image = Image(config=b"{}")
    with door(place) as client:
        for blob in image.blobs:
            upload(client, place, blob)
        line = (
            f"PUT {path.format(mine=place.app)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: {OCI_MANIFEST}\r\nContent-Length: {len(image.manifest)}\r\n\r\n"
        )
        assert raw(place, line + image.manifest.decode()) in {400, 401, 404}
        assert (
            client.get(f"/v2/{place.app}/manifests/v1", headers={"Accept": OCI_MANIFEST}).status_code == 404
        )


def test_blobs_are_not_mounted_from_others(place: Place, other: Place) -> None:
    blob = digest(Image().blobs[0])
    with door(place) as client:
        asked = client.post(f"/v2/{place.app}/blobs/uploads/?mount={blob}&from={other.app}")
        assert f"has no App '{other.app}'" in sentence(asked)
        hidden = client.post(
            f"/v2/{place.app}/blobs/uploads/", data={"mount": blob, "from": other.app}
        )  # the registry reads forms as well
        assert hidden.status_code != 201
        assert client.head(f"/v2/{place.app}/blobs/{blob}").status_code == 404


def test_blobs_are_mounted_from_an_app_of_ones_own(place: Place) -> None:
    second = f"app-{uuid.uuid4().hex[:8]}"
    place.developer.create_app(second)
    blob = Image(config=b"shared").blobs[0]
    with door(place) as client:
        upload(client, place, blob)
        mounted = client.post(f"/v2/{second}/blobs/uploads/?mount={digest(blob)}&from={place.app}")
        assert mounted.status_code == 201, mounted.text


def test_an_upload_of_another_is_not_taken_over(place: Place, other: Place) -> None:
    with door(other) as client:
        location = client.post(f"/v2/{other.app}/blobs/uploads/").headers["Location"]
    with door(place) as client:
        assert client.patch(location, content=b"x").status_code == 401
        assert client.patch(location.replace(other.app, place.app), content=b"x").status_code in {400, 404}


def test_nothing_is_deleted(place: Place) -> None:
    with door(place) as client:
        answer = client.delete(f"/v2/{place.app}/manifests/v1")
    assert "cannot be deleted" in sentence(answer)


def test_bodies_that_are_too_large_are_answered_in_json(place: Place) -> None:
    large = b"x" * (6 * 1024**2)
    with door(place) as client:
        asked = client.post("/api/v3/apps", content=large[: 3 * 1024**2])
        assert (asked.status_code, asked.json()["code"]) == (413, "too-large")
        pushed = client.put(f"/v2/{place.app}/manifests/v1", content=large)
        assert "too large" in sentence(pushed, 413)


def test_a_blob_in_one_request_of_known_length(place: Place) -> None:
    """As oras uploads; docker and skopeo send pieces whose length nobody knows before."""
    with door(place) as client:
        upload(client, place, os.urandom(3 * 1024**2))
        manifest = client.put(f"/v2/{place.app}/manifests/v1", content=bytes(3 * 1024**2))
        assert manifest.status_code == 400, "the application itself says what is wrong with it"


def test_plain_http_is_sent_to_tls(place: Place) -> None:
    plain = place.instance.url.replace("https", "http")
    answer = httpx.get(f"{plain}/x?y=1", trust_env=False)
    assert (answer.status_code, answer.headers["Location"]) == (301, f"{place.instance.url}/x?y=1")


@pytest.mark.parametrize(
    ("name", "listen"), [("data", "127.0.0.1"), ("data", "::1"), ("a space", "127.0.0.1")]
)
def test_the_configuration_is_valid(name: str, listen: str) -> None:
    data = Path(tempfile.mkdtemp(prefix="d-")) / name  # the paths of unix sockets are limited
    environment = Environment().model_copy(update={"listen": listen, "host": listen, "data": data})
    (data / "run" / "nginx").mkdir(parents=True)
    (data / "secret-key").write_text("secret")
    Authority.create_or_load(data / "authority", host=environment.host)
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert program, "nginx is not installed"
    done = subprocess.run(
        [program, "-t", "-e", "stderr", "-c", str(nginx.write(environment))], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    written = json.loads(distribution.write(environment).read_text())
    assert written["http"]["addr"].startswith("127.0.0.1:")
    assert written["http"]["relativeurls"] is True
    assert written["auth"]["token"]["realm"] == f"{environment.origin}/registry/token"


def test_a_path_that_nginx_cannot_take_is_said() -> None:
    environment = Environment().model_copy(update={"data": Path('/data";user root;')})
    with pytest.raises(ValueError, match="GRIDAPPS_DATA"):
        nginx.configuration(environment)


def test_nothing_of_ours_leaks_into_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH", "none")
    monkeypatch.setenv("GRIDAPPS_DATABASE", "postgresql://u:secret@h/d")
    for environment in (distribution.clean_environment(), nginx.clean_environment()):
        assert not {name for name in environment if name.startswith(("REGISTRY_", "AWS_", "GRIDAPPS_"))}


def test_passwords_are_not_guessed_at_any_speed(instance: Instance) -> None:
    """From an address that nobody else uses here; looking at the form is no guess."""
    transport = httpx.HTTPTransport(
        verify=ssl.create_default_context(cafile=str(instance.ca)), local_address="127.0.0.9"
    )
    with httpx.Client(base_url=instance.url, transport=transport, trust_env=False) as client:
        for path in ("/login", "/admin/login/", "/api/token"):
            found = [client.post(path, data={"username": "ann", "password": "a"}) for _ in range(25)]
            statuses = {answer.status_code for answer in found}
            assert 429 in statuses, path
        assert found[-1].json()["code"] == "too-many-guesses"
        assert found[-1].headers["Retry-After"] == "60"
        assert {client.get("/login").status_code for _ in range(40)} == {200}
