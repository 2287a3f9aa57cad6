"""cosign and oras of today sign, attach, copy and verify with the commands of docs/sharing.md."""

import re
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.fixtures.instance import Instance, new_instance
from tests.fixtures.people import Person
from tests.fixtures.roots import TESTED, Root
from tests.instance.conftest import new_person
from tests.registry import signing
from tests.registry.built import (
    Attestation,
    Image,
    config,
    digest,
    encoded,
    entry,
    index,
    layer,
    write_layout,
)

pytestmark = pytest.mark.system
DOCS = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text()
VARIABLES = "\n".join(re.findall(r'^(?:cosign|oras|to)=".*"$', DOCS, re.MULTILINE))
# oras speaks plain HTTP to localhost, unless it is told not to.
LOCALHOST = 'oras="$oras --plain-http=false"\nto="$to --to-plain-http=false"'
FROM = "--from-plain-http=false --from-ca-file ca.crt --from-cert-file client.cert --from-key-file client.key"
COMMANDS = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", DOCS, re.MULTILINE))
(VERIFY,) = re.findall(r"^cosign verify .*$", DOCS, re.MULTILINE)
ARM = {"os": "linux", "architecture": "arm64"}
PRIVATE: dict[str, Callable[[], signing.Private]] = {
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
# Suites, and the options with which their cosign writes each format.
FORMATS = {
    "trixie-simple": ("trixie", "sign, cosign 2", ""),
    "sid-simple": ("sid", "sign, cosign 3", "--new-bundle-format=false"),
    "sid-bundle": ("sid", "sign, cosign 3", ""),
}


@pytest.fixture(scope="module")
def keys() -> Path:
    """The operator's directory of keys."""
    directory = Path(tempfile.mkdtemp(prefix="keys-"))
    directory.chmod(0o755)
    signing.write_public(ec.generate_private_key(ec.SECP256R1()), directory / "other.pub")
    return directory


@pytest.fixture(scope="module")
def instance(keys: Path) -> Iterator[Instance]:
    made = new_instance(signature_keys=keys, require_signature=True)
    made.options = ("--no-worker",)
    try:
        made.start()
        yield made
    finally:
        made.remove()


@dataclass
class Clients:
    """A person at a shell of a suite, in a directory with the files of the certificate."""

    root: Root
    person: Person
    directory: Path
    sign: str  # the command that signs
    option: str  # for the format of signatures

    @property
    def bundles(self) -> bool:
        """Whether it signs with Sigstore bundles."""
        return self.sign == COMMANDS["sign, cosign 3"] and not self.option

    @property
    def host(self) -> str:
        return self.person.instance.authority

    def run(self, command: str, *, app: str = "", release: str = "", source: str = "") -> str:
        """Run a command of the documentation. Returns what it printed."""
        command = command.replace("grid.example:5443/grid/buildings", f"{self.host}/grid/{app}")
        command = command.replace("grid.example:5443/buildings", f"{self.host}/{app}")
        command = command.replace("registry.example/buildings", f"{self.host}/{source}")
        command = command.replace("@sha256:...", f"@{release}")
        script = f"set -eu\ncd {self.directory}\n{VARIABLES}\n{LOCALHOST}\n{command}"
        status, printed = self.root.run(
            "bash", "-c", script, settings={"COSIGN_PASSWORD": "", "HOME": "/root"}
        )
        assert status == 0, f"{command}\n{printed}{self.person.instance.tail()}"
        return printed

    def new_app(self) -> str:
        app = f"app-{uuid.uuid4().hex[:8]}"
        self.person.create_app(app)
        return app

    def attachments(self, app: str) -> list[tuple[str, str | None, str | None]]:
        """Kind, subject and verifying key of everything that is attached to the one release."""
        (release,) = self.person.ask("GET", f"/apps/{app}/releases").json()["releases"]
        return sorted(
            (each["kind"], each["subject"] or "", each["verified_by"] or "")
            for each in release["attachments"]
        )


@pytest.fixture(scope="module", params=[name for name, (suite, *_) in FORMATS.items() if suite in TESTED])
def clients(request: pytest.FixtureRequest, instance: Instance, keys: Path) -> Clients:
    suite, sign, option = FORMATS[request.param]
    person = new_person(instance, "dora", developer=True)
    directory = Path(tempfile.mkdtemp(prefix="dora-"))
    shutil.copytree(person.certificate(), directory, dirs_exist_ok=True)
    made = Clients(request.getfixturevalue(suite), person, directory, COMMANDS[sign], option)
    made.run("cosign generate-key-pair --output-key-prefix cosign")
    shutil.copy(directory / "cosign.pub", keys / f"{request.param}.pub")
    (directory / "buildings.spdx.json").write_text('{"spdxVersion": "SPDX-2.3"}')
    return made


@dataclass
class Signed:
    """An index of two images and an attestation, of which everything is signed."""

    app: str
    index: bytes
    parts: tuple[Image | Attestation, ...]

    @property
    def release(self) -> str:
        return digest(self.index)


@pytest.fixture(scope="module")
def signed(clients: Clients) -> Signed:
    layers = [layer(content=secrets.token_bytes(100))]
    image = Image(layers=layers)
    arm = Image(config=encoded(config(layers=layers, architecture="arm64")), layers=layers)
    attestation = Attestation(image.manifest)
    content = encoded(index(entry(image.manifest), entry(arm.manifest, ARM), attestation.entry))
    app = clients.new_app()
    write_layout(clients.directory / "layout", content, image, arm, attestation)
    clients.run("oras cp $to --from-oci-layout layout:v1 grid.example:5443/buildings:v1", app=app)
    made = Signed(app, content, (image, arm, attestation))
    sign = clients.sign.replace("cosign sign", f"cosign sign --recursive {clients.option}")
    clients.run(sign, app=app, release=made.release)
    return made


def expected(signed: Signed, request: Any) -> list[tuple[str, str, str]]:
    key = request.node.callspec.params["clients"]
    subjects = ["", *(digest(part.manifest) for part in signed.parts)]
    return sorted([("attestation", "", ""), *(("signature", subject, key) for subject in subjects)])


def test_every_manifest_of_an_index_is_signed(
    clients: Clients, signed: Signed, request: pytest.FixtureRequest
) -> None:
    assert clients.attachments(signed.app) == expected(signed, request)
    verify = VERIFY.replace("/grid/", "/").replace("release.pub", f"cosign.pub {clients.option}")
    for each in (signed.index, *(part.manifest for part in signed.parts)):
        clients.run(verify, app=signed.app, release=digest(each))


def test_a_copy_sends_attachments_before_the_image(
    clients: Clients, signed: Signed, request: pytest.FixtureRequest
) -> None:
    command = COMMANDS["copy with Sigstore bundles" if clients.bundles else "copy with the older format"]
    app = clients.new_app()
    clients.run(command.replace("$to", f"$to {FROM}"), app=app, source=signed.app)
    assert clients.attachments(app) == expected(signed, request)


def test_attachments_are_shared_and_verified(clients: Clients, signed: Signed) -> None:
    app, tag = clients.new_app(), f"tag-{uuid.uuid4().hex[:6]}"
    clients.run("oras cp $to --from-oci-layout layout:v1 grid.example:5443/buildings:v1", app=app)
    before = clients.attachments(app)
    where = {"app": app, "release": signed.release}
    clients.run(COMMANDS["SBOM"], **where)
    attest = f"cosign attest {clients.option} --type spdxjson --predicate buildings.spdx.json"
    clients.run(clients.sign.replace("cosign sign", attest), **where)
    added = [("sbom", "", ""), ("sbom" if clients.bundles else "attestation", "", "")]
    assert clients.attachments(app) == sorted([*before, *added])
    assert "application/spdx+json" in clients.run(COMMANDS["list"], **where)

    administrator = new_person(clients.person.instance, "admin", administrator=True, developer=True)
    clients.person.instance.run_server_command("tag", "create", tag)
    wanted = {"access_tag": tag, "release": "v1"}
    refusal = administrator.ask("POST", f"/apps/{app}/shares", expect=409, json=wanted)
    assert "only what is signed by a key that it knows" in refusal.json()["error"]
    clients.run(clients.sign.replace("cosign sign", f"cosign sign {clients.option}"), **where)
    administrator.ask("POST", f"/apps/{app}/shares", expect=202, json=wanted)
    clients.person.instance.wait_until(
        lambda: administrator.ask("GET", f"/apps/{app}/shares").json()["shares"][0]["state"] == "active",
        what="active",
    )
    home = clients.directory / "administrator"
    shutil.copytree(administrator.certificate(), home)
    shutil.copy(clients.directory / "cosign.pub", home / "release.pub")
    verifying = Clients(clients.root, administrator, home, clients.sign, clients.option)
    verifying.run(VERIFY.replace("--key", f"{clients.option} --key"), **where)
    shutil.copy(clients.directory / "client.cert", home)
    shutil.copy(clients.directory / "client.key", home)
    with pytest.raises(AssertionError, match=r"has no App 'grid/"):
        verifying.run(VERIFY, **where)


@pytest.mark.parametrize(
    ("kind", "verified"), [("P-384", True), ("P-521", True), ("RSA", True), ("Ed25519", False)]
)
def test_cosign_3_signs_with_keys_of_each_kind(
    clients: Clients, signed: Signed, keys: Path, kind: str, verified: bool
) -> None:
    if clients.root.name != "sid":
        pytest.skip("cosign 2.5 imports no such key")
    name = f"{kind}-{uuid.uuid4().hex[:6]}"
    private = PRIVATE[kind]()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (clients.directory / f"{name}.pem").write_bytes(pem)
    signing.write_public(private, keys / f"{name}.pub")
    app = clients.new_app()
    clients.run("oras cp $to --from-oci-layout layout:v1 grid.example:5443/buildings:v1", app=app)
    clients.run(f"cosign import-key-pair --key {name}.pem --output-key-prefix {name}")
    sign = clients.sign.replace("cosign.key", f"{name}.key {clients.option}")
    clients.run(sign, app=app, release=signed.release)
    expected = name if verified else ""  # Ed25519ph, which cosign 3.1 does not verify either
    assert ("signature", "", expected) in clients.attachments(app)
