"""Failures are classified by the state of engine, disk and registry, whatever text an image contains."""

import gzip
import hashlib
import http.client
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gridapps.sandbox.engine import pulling
from gridapps.sandbox.engine.calls import Engine as Calls
from gridapps.sandbox.engine.ongoing import OngoingPull
from gridapps.sandbox.protocol import (
    EngineUnavailable,
    ImageUnavailable,
    NodeRefused,
    NoSpace,
    RegistryUnavailable,
)
from tests.fixtures.engine import Engine
from tests.fixtures.own_engine import OwnEngine
from tests.fixtures.plain_registry import PlainRegistry, plain_registry
from tests.fixtures.ports import free_port
from tests.fixtures.suspension import suspended
from tests.sandbox.conftest import MIB, SOCKET

pytestmark = pytest.mark.service
# Words that errors of the engine and the registry contain as well.
WORDS = (
    "shutting down", "no space left on device", "unauthorized", "timeout", "connection refused",
    "containerd.sock", "x509: ", "denied",
)  # fmt: skip


@pytest.fixture(scope="module")
def registry(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRegistry]:
    assert engine
    with plain_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.setattr(pulling, "_PAUSES", (0.0, 0.0))
    return Calls(SOCKET)


def _layer(*entries: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    return buffer.getvalue()


def _put(registry: PlainRegistry, content: bytes) -> dict[str, Any]:
    """Upload a blob; its descriptor without a type."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    connection = http.client.HTTPConnection("127.0.0.1", registry.port)
    connection.request("POST", "/v2/app/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    place = answer.headers["Location"].partition(registry.host)[2]
    connection.request("PUT", f"{place}&digest={digest}", body=content)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    return {"size": len(content), "digest": digest}


def _push(registry: PlainRegistry, layer: bytes, **configuration: Any) -> str:
    """An image of one layer with this `config`; its reference by digest."""
    kind = "application/vnd.docker"
    described = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/x"], **configuration},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    config = _put(registry, json.dumps(described).encode())
    blob = _put(registry, gzip.compress(layer))
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": f"{kind}.distribution.manifest.v2+json",
        "config": {"mediaType": f"{kind}.container.image.v1+json", **config},
        "layers": [{"mediaType": f"{kind}.image.rootfs.diff.tar.gzip", **blob}],
    }).encode()  # fmt: skip
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    connection = http.client.HTTPConnection("127.0.0.1", registry.port)
    headers = {"Content-Type": f"{kind}.distribution.manifest.v2+json"}
    connection.request("PUT", f"/v2/app/manifests/{digest}", body=manifest, headers=headers)
    assert connection.getresponse().status == 201
    return f"{registry.host}/app@{digest}"


def test_a_value_of_the_configuration_that_reads_like_an_error_is_the_images_fault(
    calls: Calls, registry: PlainRegistry
) -> None:
    """The engine's error contains the name of the member that it cannot read: StopTimeout."""
    reference = _push(registry, _layer(), StopTimeout="x")
    with pytest.raises(ImageUnavailable, match="StopTimeout"):
        pulling.pull(calls, reference, OngoingPull(), token="")


@pytest.mark.parametrize("words", WORDS)
def test_names_of_files_that_read_like_an_error_are_the_images_fault(
    calls: Calls, registry: PlainRegistry, words: str
) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.LNKTYPE, f"{words}/of/the/image"
    with pytest.raises(ImageUnavailable, match=words):
        pulling.pull(calls, _push(registry, _layer(link)), OngoingPull(), token="")


def test_a_registry_that_is_away_is_away(calls: Calls) -> None:
    with pytest.raises(RegistryUnavailable):
        pulling.pull(calls, f"127.0.0.1:{free_port()}/app@sha256:{'0' * 64}", OngoingPull(), token="")


@pytest.mark.parametrize(
    ("status", "error"), [(401, NodeRefused), (403, NodeRefused), (502, RegistryUnavailable)]
)
def test_what_the_registry_answers_counts(calls: Calls, status: int, error: type[Exception]) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code = 200 if self.path == "/v2/" else status
            body = json.dumps(
                {"errors": [{"code": _CODES.get(status, ""), "message": "manifest unknown"}]}
            ).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the server looks for this name

        def log_message(self, *_: object) -> None:
            """Discard it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(error):
            pulling.pull(
                calls, f"127.0.0.1:{server.server_port}/app@sha256:{'1' * 64}", OngoingPull(), token="t"
            )
    finally:
        server.shutdown()
        server.server_close()


_CODES = {401: "UNAUTHORIZED", 403: "DENIED"}


@pytest.mark.parametrize(("status", "code"), [(401, "UNAUTHORIZED"), (403, "DENIED")])
def test_a_node_that_gets_no_token_is_refused_in_the_registrys_words(
    calls: Calls, status: int, code: str
) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.path.startswith("/token")
            said = {"code": code if asked else "UNAUTHORIZED", "message": "the certificate was revoked"}
            body = json.dumps({"errors": [said]}).encode()
            self.send_response(status if asked else 401)
            if not asked:
                realm = f"http://{self.headers['Host']}/token"
                self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="x"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the server looks for this name

        def log_message(self, *_: object) -> None:
            """Discard it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(NodeRefused, match="the certificate was revoked"):
            pulling.pull(
                calls, f"127.0.0.1:{server.server_port}/app@sha256:{'1' * 64}", OngoingPull(), token=""
            )
    finally:
        server.shutdown()
        server.server_close()


def test_a_manifest_that_is_gone_is_refused(calls: Calls, registry: PlainRegistry) -> None:
    _push(registry, _layer())  # so that the repository exists
    with pytest.raises(ImageUnavailable, match="refused"):
        pulling.pull(calls, f"{registry.host}/app@sha256:{'2' * 64}", OngoingPull(), token="")


@pytest.fixture
def small_engine(engine: Engine, tmp_path: Path) -> Iterator[OwnEngine]:
    """An engine whose disk has 160 MiB."""
    assert engine
    own = OwnEngine()
    disk, data = tmp_path / "disk", own.directory / "data"
    disk.touch()
    subprocess.run(["truncate", "-s", "160M", str(disk)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    data.mkdir()
    subprocess.run(["mount", "-o", "loop", str(disk), str(data)], check=True)
    try:
        own.start()
        yield own
    finally:
        own.remove()


def test_a_disk_that_fills_up_while_an_image_is_unpacked_is_no_fault_of_the_image(
    small_engine: OwnEngine, registry: PlainRegistry
) -> None:
    """Afterwards the engine has removed what it unpacked, so the disk has space again."""
    large = tarfile.TarInfo("large")
    large.size = 200 * MIB
    calls = Calls(small_engine.address)
    with pytest.raises(NoSpace):
        pulling.pull(calls, _push(registry, _layer(large)), OngoingPull(), token="")


def test_an_engine_whose_containerd_is_silent_is_away(
    own_engine: OwnEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Calls, "look", 2)
    process = int((own_engine.directory / "exec" / "containerd" / "containerd.pid").read_text())
    calls = Calls(own_engine.address)
    calls.check_well()
    with suspended(process), pytest.raises(EngineUnavailable):
        calls.check_well()
