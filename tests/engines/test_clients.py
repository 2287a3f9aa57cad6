"""Pushes with the clients of today to a whole instance: what they send, and what follows a refusal."""

import secrets
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines.conftest import STORES, name_of
from tests.fixtures.engine import Engine
from tests.fixtures.instance import new_instance
from tests.fixtures.leftovers import address
from tests.fixtures.own_engine import OwnEngine
from tests.fixtures.roots import Root
from tests.registry.places import Place, new_place
from tests.registry.tools import CONTAINERS_CONF

pytestmark = pytest.mark.system
ADDRESS = f"10.97.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
DOCKERFILE = """
FROM scratch
COPY --chmod=755 busybox /bin/busybox
COPY new /new
ENTRYPOINT ["/bin/busybox", "true"]
"""


@pytest.fixture(scope="module")
def place(engine: Engine) -> Iterator[Place]:
    with address(ADDRESS):
        instance = new_instance(host=ADDRESS, listen=ADDRESS)
        try:
            instance.start()
            yield new_place(instance)
        finally:
            instance.remove()


@dataclass
class Clients:
    """The clients of a release, with the developer's certificate, beside an engine of this release."""

    root: Root
    own: OwnEngine
    place: Place

    @property
    def certificates(self) -> Path:
        return self.place.developer.certificate()

    def run(self, *words: str | Path) -> tuple[int, str]:
        settings = {
            "DOCKER_HOST": self.own.address,
            "CONTAINERS_CONF": f"{self.own.directory}/containers.conf",
        }
        return self.root.run(*words, settings=settings)

    def must(self, *words: str | Path) -> str:
        status, printed = self.run(*words)
        assert status == 0, printed + self.place.instance.tail()
        return printed

    def context(self) -> Path:
        """A directory to build from, whose image has a layer that no registry has seen."""
        directory = Path(tempfile.mkdtemp(prefix="context-"))
        (directory / "Dockerfile").write_text(DOCKERFILE)
        (directory / "new").write_bytes(secrets.token_bytes(1000))
        shutil.copy("/bin/busybox", directory / "busybox")
        return directory

    def build(self, reference: str, *options: str) -> None:
        self.must("docker", "build", "--quiet", f"--tag={reference}", *options, self.context())

    def layout(self, reference: str) -> Path:
        """The OCI layout that `docker save` writes of an image."""
        archive = Path(tempfile.mkdtemp(prefix="layout-")) / "image.tar"
        self.must("docker", "save", "--output", archive, reference)
        return archive


@pytest.fixture(scope="module", params=STORES, ids=name_of)
def clients(place: Place, request: pytest.FixtureRequest) -> Iterator[Clients]:
    suite, containerd_store = request.param
    release: Root = request.getfixturevalue(suite)
    trusted = release.path(f"/etc/docker/certs.d/{place.instance.authority}")
    shutil.copytree(place.developer.certificate(), trusted, dirs_exist_ok=True)
    own = OwnEngine(inside=release.inside, containerd_store=containerd_store)
    (own.directory / "containers.conf").write_text(CONTAINERS_CONF)
    try:
        own.start()
        yield Clients(release, own, place)
    finally:
        own.remove()


@pytest.fixture
def reference(place: Place) -> str:
    return f"{place.repository}:t-{uuid.uuid4().hex[:8]}"


def release_of(place: Place, reference: str) -> dict[str, object] | None:
    """The release that the tag of a reference names."""
    releases = place.developer.ask("GET", f"/apps/{place.app}/releases").json()["releases"]
    tag = reference.rpartition(":")[2]
    return next((release for release in releases if tag in release["tags"]), None)


def kinds(release: dict[str, object] | None) -> list[str]:
    assert release is not None
    assert release["state"] == "valid"
    attachments = release["attachments"]
    assert isinstance(attachments, list)
    return [each["kind"] for each in attachments]


def test_build_and_push(clients: Clients, place: Place, reference: str) -> None:
    clients.build(reference)
    clients.must("docker", "push", reference)
    attested = ["attestation"] if clients.own.containerd_store else []
    assert kinds(release_of(place, reference)) == attested


def test_buildx_pushes_what_it_builds(clients: Clients, place: Place, reference: str) -> None:
    options = ["--provenance=mode=max"] if clients.own.containerd_store else []
    clients.must("docker", "buildx", "build", "--push", f"--tag={reference}", *options, clients.context())
    assert kinds(release_of(place, reference)) == ["attestation"] * len(options)


def test_a_build_without_provenance(clients: Clients, place: Place, reference: str) -> None:
    clients.build(reference, "--provenance=false")
    clients.must("docker", "push", reference)
    assert kinds(release_of(place, reference)) == []


def test_several_platforms(clients: Clients, place: Place, reference: str) -> None:
    if not clients.own.containerd_store:
        pytest.skip("this store holds one platform of an image")
    build = ["docker", "buildx", "build", "--platform=linux/amd64,linux/arm64", f"--tag={reference}"]
    clients.must(*build, "--provenance=false", "--push", clients.context())
    assert kinds(release_of(place, reference)) == []


@pytest.mark.parametrize("platforms", ["linux/amd64,linux/arm64", "linux/arm64,linux/amd64"])
def test_a_failed_push_leaves_no_release(
    clients: Clients, place: Place, reference: str, platforms: str
) -> None:
    """Docker 26 pushes each image under the tag: the one for arm64 is refused. Docker 28 pushes an index."""
    if not clients.own.containerd_store:
        pytest.skip("this store holds one platform of an image")
    clients.build(reference, f"--platform={platforms}", "--provenance=false")
    status, printed = clients.run("docker", "push", reference)
    assert (status == 0) == (release_of(place, reference) is not None), printed


@pytest.mark.parametrize("attested", [True, False])
def test_ctr(clients: Clients, place: Place, reference: str, attested: bool) -> None:
    if not clients.own.containerd_store:
        pytest.skip("containerd has no images")
    socket, files = clients.own.directory / "exec/containerd/containerd.sock", clients.certificates
    keys = (
        "--tlscacert",
        files / "ca.crt",
        "--tlscert",
        files / "client.cert",
        "--tlskey",
        files / "client.key",
    )
    clients.build(reference, f"--provenance={str(attested).lower()}")
    push: tuple[str | Path, ...] = ("ctr", "--address", socket, "--namespace=moby", "images", "push")
    if "--local" in clients.must(
        *push, "--help"
    ):  # containerd 2 otherwise pushes itself, without certificates
        push = (*push, "--local")
    clients.must(*push, *keys, reference)
    assert kinds(release_of(place, reference)) == ["attestation"] * attested


def test_copies_of_an_index_with_attestations(clients: Clients, place: Place, reference: str) -> None:
    if not clients.own.containerd_store:
        pytest.skip("this store has no attestations")
    clients.build(reference)
    archive, files = clients.layout(reference), clients.certificates
    copy = ("skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests")
    clients.must(*copy, "--dest-cert-dir", files, f"oci-archive:{archive}", f"docker://{reference}-skopeo")
    assert kinds(release_of(place, f"{reference}-skopeo")) == ["attestation"]
    keys = ("--to-ca-file", files / "ca.crt", "--to-cert-file", files / "client.cert",
            "--to-key-file", files / "client.key")  # fmt: skip
    source = f"{archive}:{reference.rpartition(':')[2]}"
    clients.must("oras", "cp", "--from-oci-layout", source, *keys, f"{reference}-oras")
    assert kinds(release_of(place, f"{reference}-oras")) == ["attestation"]


@pytest.mark.parametrize("compression", ["zstd", "zstd:chunked"])
def test_podman_pushes_after_its_zstd_was_refused(
    clients: Clients, place: Place, reference: str, compression: str
) -> None:
    clients.build(reference, "--provenance=false")
    home = clients.own.directory / "podman"
    podman = ("podman", f"--root={home}/root", f"--runroot={home}/run", "--storage-driver=vfs")
    clients.must(*podman, "load", "--quiet", "--input", clients.layout(reference))
    push = (*podman, "push", f"--cert-dir={clients.certificates}")
    status, printed = clients.run(*push, f"--compression-format={compression}", reference)
    assert status != 0
    assert "compressed with zstd" in printed
    assert release_of(place, reference) is None
    clients.must(*push, reference)
    assert kinds(release_of(place, reference)) == []
