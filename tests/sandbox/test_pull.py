"""Pulling by digest with a bearer token, from a real registry behind a proxy that requires the token."""

import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gridapps.sandbox.engine import ongoing
from gridapps.sandbox.protocol import ImageUnavailable, NodeRefused, PullProgress, SandboxError
from tests.fixtures.engine import Engine
from tests.fixtures.plain_registry import plain_registry
from tests.fixtures.ports import free_port
from tests.sandbox.conftest import Bench

pytestmark = pytest.mark.service
TOKEN = "the-token"
SIZE = 4 * 1024**2


class _Hold:
    """Where large layers stop."""

    after = 0
    asked = threading.Event()
    go = threading.Event()


HOLD = _Hold()
HOLD.go.set()


@dataclass
class Registry:
    """A registry from which an image can be pulled with TOKEN only."""

    gate: ThreadingHTTPServer
    digest: str
    slow: str  # digest of an image with a layer of SIZE bytes

    @contextmanager
    def held(self, after: int = 0) -> Iterator[threading.Event]:
        """Large layers stop after this number of bytes until the end. The event: one was asked for."""
        HOLD.after, HOLD.asked, HOLD.go = after, threading.Event(), threading.Event()
        try:
            yield HOLD.asked
        finally:
            HOLD.go.set()

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
            if len(body) >= SIZE:
                self.wfile.write(body[: HOLD.after])
                HOLD.asked.set()
                HOLD.go.wait(120)
                body = body[HOLD.after :]
            with suppress(OSError):  # the engine has given up
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
            large = engine.image(command=["true"], files={"/large": (os.urandom(SIZE), 0o444)})
            yield Registry(
                gate,
                behind.move(engine, engine.image(command=["echo pulled"]), "app"),
                behind.move(engine, large, "app"),
            )
        finally:
            gate.shutdown()
            gate.server_close()


def test_an_image_is_pulled_by_digest_with_the_token_and_runs(
    bench: Bench, registry: Registry, engine: Engine
) -> None:
    reference = registry.reference()
    with pytest.raises(NodeRefused):
        bench.sandbox.pull(reference, token="wrong", timeout=60)
    with pytest.raises(ImageUnavailable, match="pull it first"):
        bench.sandbox.start(bench.launch(reference))
    bench.sandbox.pull(reference, token=TOKEN, timeout=60)
    try:
        assert bench.run(reference).stdout == "pulled\n"
        bench.sandbox.pull(reference, token="not needed, for it is there", timeout=60)
    finally:
        bench.close()
        engine.client.remove_image(reference)


def test_a_pull_that_nothing_asks_about_is_abandoned(
    bench: Bench, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry holds the layer back, as over a slow line."""
    monkeypatch.setattr(ongoing, "ABANDONED", 1.0)
    reference = registry.reference(registry.slow)
    with registry.held() as asked:
        assert bench.sandbox.pull(reference, token=TOKEN, timeout=0) == PullProgress(done=0, total=0)
        assert asked.wait(60), "the engine asks for the layer"
        assert bench.sandbox.pull(reference, token=TOKEN, timeout=2.5) is not None, (
            "a question keeps it alive"
        )
        assert "pull" in _threads()
        end = time.monotonic() + 60
        while "pull" in _threads():
            assert time.monotonic() < end
            time.sleep(0.05)
    assert bench.sandbox.layers(reference) is None


def test_a_pull_reports_the_bytes_that_have_arrived(bench: Bench, registry: Registry, engine: Engine) -> None:
    reference = registry.reference(registry.slow)
    with registry.held(after=SIZE // 2) as asked:
        assert bench.sandbox.pull(reference, token=TOKEN, timeout=0) is not None
        assert asked.wait(60)
        end = time.monotonic() + 60
        while (progress := bench.sandbox.pull(reference, token=TOKEN, timeout=0.1)) and not progress.done:
            assert time.monotonic() < end
    assert progress is not None
    assert progress.done < progress.total
    assert progress.total >= SIZE
    while bench.sandbox.pull(reference, token=TOKEN, timeout=60) is not None:
        pass
    assert bench.sandbox.layers(reference)
    engine.client.remove_image(reference)


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_digest_that_is_gone_is_refused(bench: Bench, registry: Registry) -> None:
    with pytest.raises(ImageUnavailable, match="refused"):
        bench.sandbox.pull(registry.reference("sha256:" + "0" * 64), token=TOKEN, timeout=60)


def test_a_registry_that_is_away_is_no_refusal(bench: Bench) -> None:
    """It may come back, so the platform tries again."""
    with pytest.raises(SandboxError) as caught:
        bench.sandbox.pull(f"127.0.0.1:{free_port()}/app@sha256:{'0' * 64}", token=TOKEN, timeout=60)
    assert not isinstance(caught.value, ImageUnavailable)
