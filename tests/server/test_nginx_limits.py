"""Limits of one address, against a real nginx: other addresses are answered meanwhile."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from gridapps.config.environment import Environment
from gridapps.pki.authority import Authority
from gridapps.server import layout, nginx
from gridapps.server.supervise import listens
from gridapps.web import __path__ as web
from tests.fixtures.browser import CHROMIUM, faults_here
from tests.fixtures.tiers import CHANGES_INTERFACES

CONNECTIONS = 64
FLOOD = 600


class Application(BaseHTTPRequestHandler):
    """Answers every request with the request itself."""

    def address_string(self) -> str:
        return ""

    def do_GET(self) -> None:
        if self.path == "/gone":
            self.close_connection = True
            return
        body = json.dumps(dict(self.headers)).encode()
        if self.path.startswith("/?"):
            self.send_response(302)
            self.send_header("Location", "/login?next=" + quote(self.path))
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 256


class Door:
    def __init__(self, data: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.data, self.port, self.process = data, port, process
        self.tls = ssl.create_default_context(cafile=str(data / "authority" / "ca.crt"))

    def client(self, address: str) -> httpx.Client:
        """A client at this loopback address."""
        transport = httpx.HTTPTransport(verify=self.tls, local_address=address)
        return httpx.Client(base_url=f"https://localhost:{self.port}", transport=transport, trust_env=False)

    def connect(self, address: str) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(address, 0))
        return self.tls.wrap_socket(plain, server_hostname="localhost")

    def errors(self) -> str:
        return (self.data / "errors").read_text()


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    above = Path(tempfile.mkdtemp())
    above.chmod(0o711)
    data = above / "data"
    for directory in ("nginx", "application"):
        (data / "run" / directory).mkdir(parents=True)
    shutil.copytree(Path(web[0]) / "static", data / "static")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = Environment().model_copy(
        update={"data": data, "host": "localhost", "port": port, "max_connections": CONNECTIONS}
    )
    Authority.create_or_load(data / "authority", host="localhost")
    first, _ = layout.sockets(data, environment.processes)
    server = Server(str(first), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    first.chmod(0o666)
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert program, "nginx is not installed"
    written = nginx.write(environment, user="root root" if os.geteuid() == 0 else "")
    with (data / "errors").open("wb") as errors:
        process = subprocess.Popen([program, "-e", "stderr", "-c", str(written)], stderr=errors)
    try:
        end = time.monotonic() + 20
        while not listens(("127.0.0.1", port)):
            assert process.poll() is None, (data / "errors").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield Door(data, port, process)
    finally:
        process.terminate()
        process.wait(20)
        server.shutdown()
        server.server_close()
        shutil.rmtree(above)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx",
        b"PUT /v2/app/manifests/v1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx",
        b"GET /api/v3/runs HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"",
    ],
)
def test_many_slow_connections_of_one_address_leave_room_for_others(door: Door, sent: bytes) -> None:
    with ExitStack() as held, door.client("127.0.0.1") as other:
        for _ in range(FLOOD):
            connection = held.enter_context(door.connect("127.0.0.3"))
            connection.sendall(sent)
            assert other.get("/", timeout=10).status_code == 200
        if b"Content-Length" in sent:
            # The last one exceeds the limit and is refused at once.
            answer = connection.recv(4096)
            assert b" 429 " in answer or b"connections" in answer
        assert other.get("/login", timeout=10).status_code == 200
    assert len(door.errors()) < 2000, "refusals fill the log"


def test_one_address_has_so_many_connections_and_gets_json_beyond(door: Door) -> None:
    connections: list[ssl.SSLSocket] = []

    def keep() -> None:
        """Send a byte of each body, before nginx gives the connection up."""
        for connection in connections:
            connection.sendall(b"x")

    with ExitStack() as held, door.client("127.0.0.4") as same:
        for _ in range(CONNECTIONS):
            keep()
            connection = held.enter_context(door.connect("127.0.0.4"))
            connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
            connections.append(connection)
        end = time.monotonic() + 120
        while (answer := same.get("/")).status_code == 200:
            assert time.monotonic() < end
            keep()
        assert answer.status_code == 429
        assert answer.json()["code"] == "too-many-connections"
        assert answer.headers["Retry-After"] == "5"
        refused = same.get("/v2/")
        assert refused.status_code == 429
        assert refused.json()["errors"][0]["code"] == "TOOMANYREQUESTS"


@pytest.mark.parametrize("path", ["/login", "/admin/login/", "/api/token", "/api/revoke_token"])
def test_attempts_at_secrets_are_limited(door: Door, path: str) -> None:
    with door.client(f"127.0.1.{len(path)}") as client:
        statuses = [client.post(path).status_code for _ in range(30)]
        assert statuses[:20] == [200] * 20
        assert 429 in statuses


def test_metrics_are_limited(door: Door) -> None:
    with door.client("127.0.0.5") as client:
        statuses = [client.get("/metrics").status_code for _ in range(40)]
        assert statuses[:20] == [200] * 20
        assert 429 in statuses


@pytest.mark.parametrize("path", ["/v2", "/static", "/registry", "/internal/outputs"])
def test_a_redirect_never_repeats_the_host_of_the_client(door: Door, path: str) -> None:
    with door.client("127.0.0.6") as client:
        answer = client.get(path, headers={"Host": "evil.example"})
        assert "evil.example" not in answer.headers.get("Location", "")


@pytest.mark.parametrize("headers", [{"X-A": "a" * 20_000}, {f"X-{i}": "a" * 7000 for i in range(9)}])
def test_large_headers_are_refused(door: Door, headers: dict[str, str]) -> None:
    with door.client("127.0.0.7") as client:
        assert client.get("/", headers=headers).status_code in {400, 431}
        assert client.get("/" + "a" * 20_000).status_code == 414


def test_the_workers_may_open_the_files_that_their_connections_need(door: Door) -> None:
    children = Path(f"/proc/{door.process.pid}/task/{door.process.pid}/children").read_text().split()
    assert children
    for child in children:
        limits = Path(f"/proc/{child}/limits").read_text()
        files = next(line for line in limits.splitlines() if line.startswith("Max open files")).split()
        assert int(files[3]) >= min(16384, int(files[4]))


def test_an_answer_may_repeat_a_long_address(door: Door) -> None:
    """Like a redirect to the login. nginx answers 502 for headers that exceed its buffers."""
    with door.client("127.0.0.10") as client:
        answer = client.get("/?" + "\u00e9" * 1300)
        assert answer.status_code == 302
        assert len(answer.headers["Location"]) > 10_000


def test_programs_get_refusals_of_nginx_as_json(door: Door) -> None:
    with door.client("127.0.0.11") as client:
        large = client.post("/api/v3/apps", content=b"x" * (3 * 1024**2))
        assert (large.status_code, large.json()["code"]) == (413, "too-large")
        gone = client.get("/gone")
        assert (gone.status_code, gone.json()["code"]) == (503, "unavailable")
        assert gone.headers["Retry-After"] == "5"


@pytest.fixture
def page(browser: Browser, door: Door) -> Iterator[Page]:
    context = browser.new_context(base_url=f"https://localhost:{door.port}", ignore_https_errors=True)
    yield context.new_page()
    context.close()


def _post(page: Page, path: str, size: int) -> None:
    """Send a form, as a page of the instance would."""
    with page.expect_navigation():
        page.evaluate(
            """([path, size]) => {
                const form = document.createElement("form");
                form.method = "POST";
                form.action = path;
                const field = document.createElement("textarea");
                field.name = "text";
                field.value = "x".repeat(size);
                form.append(field);
                document.body.append(form);
                form.submit();
            }""",
            [path, size],
        )


@pytest.mark.service
@pytest.mark.xdist_group(CHANGES_INTERFACES)
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: scripts/machine test")
@pytest.mark.parametrize(
    ("case", "heading", "sentence"),
    [
        ("large", "Too large", "The request is larger than 2 MiB. Nothing was changed."),
        ("attempts", "Too many attempts", "Too many attempts from your address; wait a minute."),
        (
            "connections",
            "Too many connections",
            "Too many connections from your address at once",
        ),
        ("gone", "Not available", "The instance is not available; try again in a moment."),
    ],
)
def test_a_browser_shows_refusals_of_nginx_as_pages(
    door: Door, page: Page, case: str, heading: str, sentence: str
) -> None:
    page.goto("/")
    with ExitStack() as held:
        if case == "large":
            _post(page, "/settings/developer", 3 * 1024**2)
        elif case == "attempts":
            with door.client("127.0.0.1") as client:
                assert 429 in [client.post("/login").status_code for _ in range(40)]
            _post(page, "/login", 1)
        elif case == "connections":
            # The browser's own connection remains, so one of these is refused.
            for _ in range(CONNECTIONS):
                connection = held.enter_context(door.connect("127.0.0.1"))
                connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")
            page.goto("/")
        else:
            page.goto("/gone")
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        expect(page.get_by_text(sentence)).to_be_visible()
        expect(page.get_by_role("link", name="To your runs and Apps")).to_have_attribute("href", "/")
    assert faults_here(page) == []
