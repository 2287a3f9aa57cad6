"""Pushes with the real docker, podman and skopeo to a whole instance, and what they print when refused."""

import secrets
import sqlite3
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gridapps.pki.authority import Authority
from gridapps.pushes.quota import AROUND
from tests.fixtures.engine import Engine
from tests.fixtures.instance import new_instance
from tests.fixtures.leftovers import address
from tests.registry import tools
from tests.registry.built import Attestation, Image, config, digest, encoded, entry, index, write_layout
from tests.registry.places import Place, directory, door, new_place, upload
from tests.registry.tools import Push

pytestmark = pytest.mark.system
ADDRESS = f"10.98.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
MAX_IMAGE = 4 * 1024**2
MAX_REGISTRY = 48 * 1024**2
TOOLS = [*tools.dockers(), "podman", "skopeo"]


@pytest.fixture(scope="module")
def place(engine: Engine) -> Iterator[Place]:
    with address(ADDRESS):
        instance = new_instance(host=ADDRESS, listen=ADDRESS, max_image=MAX_IMAGE, max_registry=MAX_REGISTRY)
        try:
            instance.start()
            yield new_place(instance)
        finally:
            instance.remove()


@pytest.fixture(scope="module", params=TOOLS)
def push(request: pytest.FixtureRequest) -> Push:
    """Each tool in turn."""
    if request.param == "skopeo":
        return tools.with_skopeo
    if request.param == "podman":
        return tools.with_podman(Path(tempfile.mkdtemp(prefix="podman-")))
    return tools.with_docker(request.param)


def made_by_hand(
    place: Place, signer: Authority, *, start: timedelta, end: timedelta, issuer: x509.Name
) -> Path:
    """A client certificate that the instance never issued, valid from `start` to `end` from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, place.developer.name)])
    builder = x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
    made = (
        builder.not_valid_before(now + start).not_valid_after(now + end).sign(signer.ca_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    return directory(
        {"ca.crt": place.instance.ca.read_text(), "client.cert": pem, "client.key": private.decode()}
    )


def test_the_certificate_alone_authorises(place: Place, push: Push, busybox_image: str) -> None:
    tag = f"t-{uuid.uuid4().hex[:6]}"
    status, printed = push(busybox_image, f"{place.repository}:{tag}", place.developer.certificate())
    assert status == 0, printed + place.instance.tail()
    assert place.states(tag) == ["valid"]
    again, printed = push(busybox_image, f"{place.repository}:{tag}-2", place.developer.certificate())
    assert again == 0, printed
    assert place.states(f"{tag}-2") == ["valid"]


def refused(place: Place, pushed: tuple[int, str], *words: str) -> None:
    status, printed = pushed
    assert status != 0, printed
    assert all(word in printed for word in words), printed + place.instance.tail()


@pytest.fixture(scope="module")
def other(place: Place) -> Place:
    """Another developer with an App."""
    return new_place(place.instance)


def test_another_developers_app(place: Place, other: Place, push: Push, busybox_image: str) -> None:
    reference = f"{other.repository}:v1"
    refused(place, push(busybox_image, reference, place.developer.certificate()), f"has no App '{other.app}'")


def test_an_app_that_is_none(place: Place, push: Push, busybox_image: str) -> None:
    reference = f"{place.instance.authority}/nothing/like-it:v1"
    refused(
        place, push(busybox_image, reference, place.developer.certificate()), "has no App 'nothing/like-it'"
    )


def test_no_certificate(place: Place, push: Push, busybox_image: str) -> None:
    bare = directory({"ca.crt": place.instance.ca.read_text()})
    pushed = push(busybox_image, f"{place.repository}:v1", bare)
    refused(
        place,
        pushed,
        "The request has no client certificate of this instance",
        f"certs.d/{place.instance.authority}",
    )


def test_a_revoked_certificate(place: Place, push: Push, busybox_image: str) -> None:
    certificates, serial = place.issue()
    assert push(busybox_image, f"{place.repository}:v1", certificates)[0] == 0
    place.developer.ask("DELETE", f"/developer/certificates/{serial}", expect=204)
    refused(place, push(busybox_image, f"{place.repository}:v1", certificates), "'new' was revoked on")


def test_an_expired_certificate(place: Place, push: Push, busybox_image: str) -> None:
    ours = Authority.create_or_load(place.instance.data / "authority", host=ADDRESS)
    expired = made_by_hand(
        place, ours, start=timedelta(days=-2), end=timedelta(days=-1), issuer=ours.ca.subject
    )
    refused(place, push(busybox_image, f"{place.repository}:v1", expired), "certificate has expired")


def test_a_certificate_of_another_authority(
    place: Place, push: Push, busybox_image: str, tmp_path: Path
) -> None:
    stranger = Authority.create_or_load(tmp_path, host=ADDRESS)
    lasting = {"start": timedelta(days=-1), "end": timedelta(days=1)}
    foreign = made_by_hand(place, stranger, issuer=stranger.ca.subject, **lasting)
    # The tools send no certificate of an authority that nginx does not list.
    pushed = push(busybox_image, f"{place.repository}:v1", foreign)
    refused(place, pushed, "The request has no client certificate of this instance")
    # One that only claims to be of ours is sent.
    ours = x509.load_pem_x509_certificate(place.instance.ca.read_bytes())
    forged = made_by_hand(place, stranger, issuer=ours.subject, **lasting)
    refused(place, push(busybox_image, f"{place.repository}:v1", forged), "client certificate")


def test_one_that_the_authority_signed_but_nobody_recorded(
    place: Place, push: Push, busybox_image: str
) -> None:
    ours = Authority.create_or_load(place.instance.data / "authority", host=ADDRESS)
    unknown = made_by_hand(
        place, ours, start=timedelta(days=-1), end=timedelta(days=1), issuer=ours.ca.subject
    )
    refused(place, push(busybox_image, f"{place.repository}:v1", unknown), "not known to this instance")


@pytest.fixture(scope="module")
def outcast(place: Place) -> Place:
    """A developer with a certificate whose verification was taken back."""
    made = new_place(place.instance)
    made.developer.certificate()
    with (
        closing(
            sqlite3.connect(place.instance.data / "database" / "gridapps.sqlite3", timeout=30)
        ) as database,
        database,
    ):
        database.execute(
            "UPDATE access_developer SET state = 'refused' "
            "WHERE user_id = (SELECT id FROM access_user WHERE username = ?)",
            (made.developer.name,),
        )
    return made


def test_a_developer_who_is_no_longer_verified(outcast: Place, push: Push, busybox_image: str) -> None:
    pushed = push(busybox_image, f"{outcast.repository}:v1", outcast.developer.certificate())
    refused(outcast, pushed, f"{outcast.developer.name} is not a verified developer")


def test_no_entry_point(place: Place, push: Push, engine: Engine) -> None:
    image = engine.image(entrypoint=None)
    pushed = push(image, f"{place.repository}:bare", place.developer.certificate())
    refused(place, pushed, "The image has no ENTRYPOINT")
    assert place.states("bare") == []


def test_a_volume_where_nothing_may_be_written(place: Place, push: Push, engine: Engine) -> None:
    image = engine.image(changes=["VOLUME /data"])
    refused(place, push(image, f"{place.repository}:v", place.developer.certificate()), "VOLUME '/data'")


@pytest.fixture(scope="module")
def odd_images(engine: Engine) -> Iterator[dict[str, str]]:
    made = {
        "arm64": tools.load(engine.client, "arm", architecture="arm64", size=1000),
        "large": tools.load(engine.client, "large", architecture="amd64", size=MAX_IMAGE),
    }
    yield made
    for reference in made.values():
        engine.client.remove_image(reference, force=True)


def test_another_platform(place: Place, push: Push, odd_images: dict[str, str]) -> None:
    pushed = push(odd_images["arm64"], f"{place.repository}:arm", place.developer.certificate())
    refused(place, pushed, "built for linux/arm64; build it for linux/amd64")


def test_too_large(place: Place, push: Push, odd_images: dict[str, str]) -> None:
    pushed = push(odd_images["large"], f"{place.repository}:large", place.developer.certificate())
    refused(place, pushed, "The image is too large", f"this instance allows {MAX_IMAGE} bytes")


def test_one_request_does_not_fill_the_disk(place: Place) -> None:
    with door(place) as client:
        location = client.post(f"/v2/{place.app}/blobs/uploads/").headers["Location"]
        answer = client.patch(location, content=bytes(2 * MAX_IMAGE + 1))
    assert answer.status_code == 413
    message = "The upload is too large: an image may have at most 4 MiB."
    assert answer.json()["errors"][0]["message"] == message


@pytest.mark.parametrize("layout", ["image", "artifact", "subjectless"])
def test_an_image_for_many_platforms_with_attestations(place: Place, tmp_path: Path, layout: str) -> None:
    """skopeo sends the parts of an index before the index, by digest."""
    image, other = Image(), Image(config=encoded(config(architecture="arm64", config={})))
    attestation = Attestation(image.manifest, layout)
    whole = encoded(index(
        entry(other.manifest, {"os": "linux", "architecture": "arm64"}), entry(image.manifest),
        attestation.entry,
    ))  # fmt: skip
    parts = (image, other, attestation)
    write_layout(tmp_path, whole, *parts)
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests", "--dest-cert-dir",
         str(place.developer.certificate()), f"oci:{tmp_path}", f"docker://{place.repository}:many"],
        check=True, timeout=120,
    )  # fmt: skip
    releases = place.developer.ask("GET", f"/apps/{place.app}/releases").json()["releases"]
    assert [release["digest"] for release in releases if "many" in release["tags"]] == [digest(whole)]
    assert not {digest(part.manifest) for part in parts} & {release["digest"] for release in releases}


def test_after_a_refused_zstd_layer_podman_pushes_as_ever(place: Place, engine: Engine) -> None:
    # A layer that no test has pushed: podman would send it as it is known to be in the registry.
    new_image = engine.image(files={"/new": (secrets.token_bytes(1000), 0o644)})
    push = tools.with_podman(Path(tempfile.mkdtemp(prefix="podman-")))
    reference, certificates = f"{place.repository}:zstd", place.developer.certificate()
    pushed = push(new_image, reference, certificates, "--compression-format", "zstd")
    refused(place, pushed, "compressed with zstd", "--compression-format gzip --force-compression")
    assert place.states("zstd") == []
    status, printed = push(new_image, reference, certificates)
    assert status == 0, printed
    assert place.states("zstd") == ["valid"]


def fill(place: Place, *, leave: int) -> None:
    """Blobs that no image needs, until so many bytes are left."""
    used = place.developer.ask("GET", "/developer").json()["developer"]["images_used"]
    with door(place) as client:
        while (more := MAX_REGISTRY - used - leave) > AROUND:
            size = min(more, 2 * MAX_IMAGE) - AROUND
            upload(client, place, secrets.token_bytes(size))
            used += size + AROUND


@pytest.fixture(scope="module")
def crowded(place: Place) -> Place:
    """A developer whose images leave little of the limit: less and less, from test to test."""
    return new_place(place.instance)


@pytest.mark.parametrize("leave", [200 * 1024, AROUND - 1], ids=["little", "nothing"])
def test_the_limit_on_a_developers_disk(crowded: Place, push: Push, busybox_image: str, leave: int) -> None:
    fill(crowded, leave=leave)
    pushed = push(busybox_image, f"{crowded.repository}:v1", crowded.developer.certificate())
    refused(
        crowded,
        pushed,
        f"The quota is exceeded: the images of {crowded.developer.name}'s Apps take",
        "this instance allows a developer 48 MiB",
    )
    assert crowded.states("v1") == []
