"""A compromised node: its certificate can pull, and do nothing else at the instance's TLS port.

docs/security.md describes what it can do to its tasks and to the database.
"""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridapps.oci.manifests import OCI_MANIFEST
from tests.attacks.scene import Scene
from tests.attacks.tries import assert_held
from tests.attacks.wire import Wire, request
from tests.fixtures.instance import SERVER
from tests.registry.built import Image


@pytest.fixture(scope="module")
def node(scene: Scene) -> Iterator[Wire]:
    """The TLS port, with the certificate of a bundle of `node add`."""
    done = subprocess.run(
        [str(SERVER), "node", "add", "rack7"], env=scene.instance.environment, capture_output=True, check=True
    )
    directory = Path(tempfile.mkdtemp(prefix="node-"))
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as bundle:
        for member in bundle.getmembers():
            if (content := bundle.extractfile(member)) is not None:
                (directory / Path(member.name).name).write_bytes(content.read())
    yield Wire(scene.instance, directory)
    scene.instance.run_server_command("node", "remove", "rack7")


def test_a_node_pulls_what_is_shared(scene: Scene, node: Wire) -> None:
    """The other tests rely on this: the certificate is valid."""
    path = f"/v2/grid/{scene.app}/manifests/{scene.release}"
    accept = "Accept: application/vnd.docker.distribution.manifest.v2+json"
    assert node.status(request(path, accept)) == 200
    assert node.status(request(f"/v2/{scene.other_app}/tags/list")) == 200


def test_a_node_pushes_changes_and_deletes_nothing(scene: Scene, node: Wire) -> None:
    manifest = Image().manifest
    places = [
        f"/v2/{prefix}{app}/{rest}"
        for prefix in ("", "grid/")
        for app in (scene.app, scene.other_app)
        for rest in (
            "manifests/v1", f"manifests/{scene.release}", "blobs/uploads/", "blobs/uploads/x",
            f"blobs/{scene.release}", "tags/list", f"blobs/uploads/?mount={scene.release}&from={scene.app}",
            f"blobs/uploads/?digest={scene.release}",
        )
    ]  # fmt: skip
    rows = [(method, place) for place in places for method in ("POST", "PUT", "PATCH", "DELETE")]

    def got_through(row: tuple[str, str]) -> object:
        method, place = row
        sent = request(place, f"Content-Type: {OCI_MANIFEST}", method=method, body=manifest)
        status = node.status(sent, method=method)
        return status < 400 and status

    assert_held(rows, got_through)


def test_a_node_calls_nothing_else(scene: Scene, node: Wire) -> None:
    paths = [
        "/v2/_catalog", "/v2/grid/_catalog", f"/v2/grid/{scene.app}/tags/list",
        f"/v2/grid/../{scene.app}/manifests/v1", "/v2/grid/nothing/manifests/v1", "/registry/authorize",
        f"/registry/token?scope=repository:{scene.app}:push", "/registry/token?scope=registry:catalog:*",
        f"/registry/token?scope=repository:grid/{scene.app}:push", "/api/v3/me", "/api/v3/runs",
        f"/api/v3/runs/{scene.run}", "/api/v3/developer/certificates", "/settings", "/admin/",
        "/internal/authorize", f"/internal/outputs/{scene.run}/0/1/log", "/metrics",
    ]  # fmt: skip

    def got_through(path: str) -> object:
        answers = node.exchange(request(path))
        return [answer for answer in answers if answer.status not in {302, 400, 401, 404}]

    assert_held(paths, got_through)


def test_a_node_that_was_removed_pulls_nothing(scene: Scene, node: Wire) -> None:
    """Not even on a connection that was open before. This test comes last, because it removes the node."""
    path = f"/v2/{scene.app}/tags/list"
    keep = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with node.connect() as secure:
        secure.sendall(keep)
        assert secure.recv(65536).startswith(b"HTTP/1.1 200")
        scene.instance.run_server_command("node", "remove", "rack7")
        secure.sendall(keep)
        assert secure.recv(65536).startswith(b"HTTP/1.1 401")
