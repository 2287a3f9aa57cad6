"""Pulling by digest with a bearer token, from a real registry behind a proxy that requires the token."""

import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gridapps.sandbox.protocol import ImageUnavailable, NodeRefused, SandboxError
from tests.fixtures.engine import Engine
from tests.fixtures.plain_registry import plain_registry
from tests.fixtures.ports import free_port
from tests.sandbox.conftest import Bench

pytestmark = pytest.mark.service
TOKEN = "the-token"


@dataclass
class Registry:
    """A registry from which an image can be pulled with TOKEN only."""

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

        do_HEAD = do_GET  # noqa: N815 - the server looks for this name

        def log_message(self, *_: object) -> None:
            """Discard it."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Gate)


@pytest.fixture(scope="module")
def registry(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with plain_registry(tmp_path_factory.mktemp("registry")) as behind:
        gate = _gate(behind.port)
        threading.Thread(target=gate.serve_forever, daemon=True).start()
        try:
            yield Registry(gate, behind.move(engine, engine.image(command=["echo pulled"]), "app"))
        finally:
            gate.shutdown()
            gate.server_close()


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
    """It may come back, so the platform tries again."""
    with pytest.raises(SandboxError) as caught:
        bench.sandbox.pull(f"127.0.0.1:{free_port()}/app@sha256:{'0' * 64}", token=TOKEN)
    assert not isinstance(caught.value, ImageUnavailable)
