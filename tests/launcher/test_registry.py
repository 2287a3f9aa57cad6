"""The worker checks whether the node trusts a registry, because the launcher has no network."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gridapps.sandbox.protocol import NodeRefused, RegistryUnavailable
from tests.launcher.conftest import FakeLauncher

DIGEST = "@sha256:" + "0" * 64


@pytest.fixture
def silent_to_the_engine(fake_launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(image: str, *, token: str, timeout: float) -> None:
        raise RegistryUnavailable("The registry does not answer the engine (status 500).")

    monkeypatch.setattr(fake_launcher.sandbox, "pull", pull)


@pytest.fixture
def untrusted(fake_launcher: FakeLauncher, tmp_path: Path) -> Iterator[str]:
    """A registry with a self-signed certificate."""
    host = fake_launcher.registries[1]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    subprocess.run([*command, *files], check=True, capture_output=True)
    server = HTTPServer(("127.0.0.1", int(host.partition(":")[2])), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield host
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("silent_to_the_engine")
def test_a_registry_whose_certificate_the_node_does_not_trust_refuses_the_node(
    fake_launcher: FakeLauncher, untrusted: str
) -> None:
    sandbox = fake_launcher.connect()
    with pytest.raises(NodeRefused, match="does not trust the certificate"):
        sandbox.pull(f"{untrusted}/app{DIGEST}", token="", timeout=60)
    sandbox.close()


@pytest.mark.usefixtures("silent_to_the_engine")
def test_a_registry_that_is_away_is_away(fake_launcher: FakeLauncher) -> None:
    sandbox = fake_launcher.connect()
    with pytest.raises(RegistryUnavailable):
        sandbox.pull(f"{fake_launcher.registries[1]}/app{DIGEST}", token="", timeout=60)
    sandbox.close()
