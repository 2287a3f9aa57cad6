"""Signed, attached, scanned: the real tools through the door of an instance that asks for all of it."""

import os
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.fixtures.instance import Instance, new_instance
from tests.fixtures.people import Person
from tests.instance.conftest import new_person
from tests.instance.test_sharing import command
from tests.registry import signing
from tests.registry.built import Image, descriptor, digest
from tests.registry.places import Place, door, new_place, upload
from tests.registry.signing import EMPTY, SPDX, attachment, payload, sign, signature, tag_of

pytestmark = pytest.mark.system
KEY = ec.generate_private_key(ec.SECP256R1())
SBOM = b'{"spdxVersion": "SPDX-2.3"}'
# Waits for as long as the file is there.
SCANNER = """#!/bin/sh
while test -e {hold}; do sleep 0.05; done
echo "looked at $1"
"""


@pytest.fixture(scope="module")
def home() -> Path:
    """What the operator has made: a directory of keys, and a scanner."""
    home = Path(tempfile.mkdtemp(prefix="operator-"))
    home.chmod(0o711)  # the promoter reads the keys, and the scanner's account starts the program
    (home / "keys").mkdir()
    signing.write_public(KEY, home / "keys" / "release.pub")
    (home / "scan").write_text(SCANNER.format(hold=home / "hold"))
    (home / "scan").chmod(0o755)
    return home


@pytest.fixture(scope="module")
def instance(home: Path) -> Iterator[Instance]:
    made = new_instance(signature_keys=home / "keys", require_signature=True, scanner=home / "scan")
    made.options = ("--no-worker",)
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def developer(instance: Instance) -> Person:
    return new_place(instance).developer


def new_app(developer: Person) -> Place:
    """Another App of the developer's."""
    app = f"app-{uuid.uuid4().hex[:8]}"
    developer.create_app(app)
    return Place(developer.instance, developer, app)


def push(place: Place, image: Image, *attached: tuple[str, bytes]) -> None:
    """Push an image, and manifests of attachments under their tags, as the tools do."""
    with door(place) as client:
        for blob in (*image.blobs, payload(digest(image.manifest)), SBOM, EMPTY):
            upload(client, place, blob)
        for reference, manifest in (("v1", image.manifest), *attached):
            answer = client.put(
                f"/v2/{place.app}/manifests/{reference}",
                content=manifest,
                headers={"Content-Type": OCI_MANIFEST},
            )
            assert answer.status_code == 201, answer.text


def copy_signed(source: Place, target: Place) -> None:
    """With skopeo, which reads and writes signatures in cosign's layout where it is told to."""
    told = Path(tempfile.mkdtemp(prefix="registries.d-"))
    (told / "all.yaml").write_text("default-docker:\n  use-sigstore-attachments: true\n")
    done = subprocess.run(
        ["skopeo", "--insecure-policy", "--registries.d", str(told), "copy",
         "--src-cert-dir", str(source.developer.certificate()),
         "--dest-cert-dir", str(target.developer.certificate()),
         f"docker://{source.repository}:v1", f"docker://{target.repository}:v1"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + target.instance.tail()


def test_what_is_signed_and_scanned_is_shared(instance: Instance, developer: Person, home: Path) -> None:
    first, place, unsigned = (new_app(developer) for _ in range(3))
    image, tag = Image(), f"tag-{uuid.uuid4().hex[:6]}"
    release, content = digest(image.manifest), payload(digest(image.manifest))
    signed = attachment(signature(content, sign(KEY, content)))
    push(first, image, (tag_of(release), signed))
    copy_signed(first, place)
    administrator, analyst = new_person(instance, "admin", administrator=True), new_person(instance, "ann")
    instance.run_server_command("tag", "create", tag)
    instance.run_server_command("tag", "give", tag, analyst.name)
    push(unsigned, image)
    wanted = {"access_tag": tag, "release": "v1"}
    refusal = administrator.ask("POST", f"/apps/{unsigned.app}/shares", expect=409, json=wanted)
    assert "only what is signed by a key that it knows" in refusal.json()["error"]

    (home / "hold").touch()
    push(place, image, (tag_of(release, ".sbom"), attachment(descriptor(SBOM, SPDX))))
    administrator.ask("POST", f"/apps/{place.app}/shares", expect=202, json=wanted)

    def share() -> dict[str, object]:
        found: dict[str, object] = administrator.ask("GET", f"/apps/{place.app}/shares").json()["shares"][0]
        return found

    scans, images = instance.data / "scanner", instance.data / "scans"
    instance.wait_until(lambda: list(scans.glob("share-*/held")), what="scanned")
    assert (share()["state"], share()["reason"]) == ("copying", "The scanner examines the release.")
    left = [path.parent for path in scans.glob("share-*/held")]
    os.kill(instance.part("promoter"), signal.SIGKILL)
    instance.wait_until(
        lambda: set(scans.glob("share-*/held")) - {path / "held" for path in left}, what="scanned again"
    )
    assert not any(path.exists() for path in left)
    assert len(list(images.iterdir())) == 1
    (home / "hold").unlink()
    instance.wait_until(lambda: share()["state"] == "active", what="active", seconds=30)
    assert str(share()["scan"]).startswith("looked at ")
    assert [path.name for path in scans.iterdir()] == ["home"]
    assert list(images.iterdir()) == []

    (seen,) = analyst.ask("GET", f"/apps/{place.app}").json()["apps"]
    assert {(each["kind"], each["verified_by"]) for each in seen["attachments"]} == {
        ("signature", "release"), ("sbom", None),
    }  # fmt: skip
    path = f"/apps/{place.app}/releases/{release}/attachments/{digest(SBOM)}"
    assert analyst.ask("GET", path).content == SBOM
    assert "signature by release, sbom" in command(administrator, "share", "list", place.app)
    assert "signature by release" in command(analyst, "app", "show", place.app)


def test_clients_that_keep_a_list_themselves_are_told_to(developer: Person) -> None:
    """As the specification has it: 404 for the list of referrers, then an index under a tag."""
    place, image = new_app(developer), Image()
    release = digest(image.manifest)
    push(place, image)
    subject = {"mediaType": OCI_MANIFEST, "digest": release, "size": len(image.manifest)}
    manifest = attachment(descriptor(SBOM, SPDX), subject=subject, artifactType=SPDX)
    with door(place) as client:
        for asked in (release, "sha256:" + "0" * 64):
            assert client.get(f"/v2/{place.app}/referrers/{asked}").status_code == 404
        listed = f"/v2/{place.app}/manifests/{tag_of(release, '')}"
        assert client.get(listed, headers={"Accept": OCI_INDEX}).status_code == 404
        for path, body, kind in (
            (f"/v2/{place.app}/manifests/{digest(manifest)}", manifest, OCI_MANIFEST),
            (listed, signing.listing(manifest), OCI_INDEX),
        ):
            answer = client.put(path, content=body, headers={"Content-Type": kind})
            assert answer.status_code == 201, answer.text
        answer = client.get(listed, headers={"Accept": OCI_INDEX})
        assert (answer.status_code, answer.content) == (200, signing.listing(manifest))
        assert client.get(f"/v2/app-of-another/referrers/{release}").status_code == 401
