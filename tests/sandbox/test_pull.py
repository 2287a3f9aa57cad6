"""Pulling by digest with a bearer token, from a real registry behind a gate that wants the token."""

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gridapps.sandbox.protocol import ImageUnavailable, NodeRefused, SandboxError
from tests.fixtures.engine import Engine
from tests.sandbox.conftest import Bench

pytestmark = pytest.mark.engine
TOKEN = "the-token"


@dataclass
class Registry:
    """Where an image can be pulled with TOKEN, and nothing without."""

    gate: ThreadingHTTPServer
    digest: str

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.gate.server_port}"

    def reference(self, digest: str = "") -> str:
        return f"{self.host}/app@{digest or self.digest}"


def _gate(registry_port: int) -> ThreadingHTTPServer:
    class Gate(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Bearer realm="http://127.0.0.1:1/token",service="s"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            behind = http.client.HTTPConnection("127.0.0.1", registry_port)
            wanted = {key: value for key, value in self.headers.items() if key in {"Accept", "Range"}}
            behind.request(self.command, self.path, headers=wanted)
            answer = behind.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key not in {"Date", "Transfer-Encoding"}:
                    self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Gate)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def registry(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory, port = tmp_path_factory.mktemp("registry"), _free_port()
    process = _start(directory, port)
    gate = _gate(port)
    threading.Thread(target=gate.serve_forever, daemon=True).start()
    pushed = f"127.0.0.1:{port}/app"
    try:
        image = engine.image(command=["echo pulled"])
        engine.client.tag(image, pushed, "1")
        for step in engine.client.push(pushed, "1", stream=True, decode=True):
            assert "error" not in step, step
        found = engine.client.inspect_image(f"{pushed}:1")["RepoDigests"]
        (digest,) = [entry.partition("@")[2] for entry in found if entry.startswith(pushed)]
        engine.client.remove_image(f"{pushed}:1")
        engine.client.remove_image(image)
        yield Registry(gate, digest)
    finally:
        gate.shutdown()
        gate.server_close()
        process.terminate()
        process.wait(10)


def _start(directory: Path, port: int) -> "subprocess.Popen[bytes]":
    configuration = directory / "config.yml"
    configuration.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: test}}\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
    )
    process = subprocess.Popen(["docker-registry", "serve", str(configuration)], env={})
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    process.kill()
    raise AssertionError("docker-registry does not answer")


def test_an_image_is_pulled_by_digest_with_the_token_and_runs(
    bench: Bench, registry: Registry, engine: Engine
) -> None:
    reference = registry.reference()
    with pytest.raises(NodeRefused):
        bench.sandbox.pull(reference, token="wrong")
    with pytest.raises(ImageUnavailable, match="pull it first"):
        bench.sandbox.start(bench.launch(reference))
    bench.sandbox.pull(reference, token=TOKEN)
    try:
        assert bench.run(reference).stdout == "pulled\n"
        bench.sandbox.pull(reference, token="not needed, for it is there")
    finally:
        bench.close()
        engine.client.remove_image(reference)


def test_a_digest_that_is_gone_is_refused(bench: Bench, registry: Registry) -> None:
    with pytest.raises(ImageUnavailable, match="refused"):
        bench.sandbox.pull(registry.reference("sha256:" + "0" * 64), token=TOKEN)


def test_a_registry_that_is_away_is_no_refusal(bench: Bench) -> None:
    """It may be back soon: the platform's fault, tried again."""
    with pytest.raises(SandboxError) as caught:
        bench.sandbox.pull(f"127.0.0.1:{_free_port()}/app@sha256:{'0' * 64}", token=TOKEN)
    assert not isinstance(caught.value, ImageUnavailable)
