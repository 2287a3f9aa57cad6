"""Failures of the network and of servers: a sentence for each, and no request is made twice."""

import json
import ssl
import subprocess
import threading
import uuid
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from gridapps_client import (
    BadAnswer,
    Client,
    Conflict,
    GridAppsError,
    NotFound,
    Unauthenticated,
    Unreachable,
    Untrusted,
)
from gridapps_client.transport import Transport

from client.tests.loopback import Server, reply

ME = {"user": {"username": "ada", "administrator": False, "developer": "none", "access_tags": []}}


def test_nothing_listens() -> None:
    with (
        Client("http://127.0.0.1:9", token="t") as client,
        pytest.raises(Unreachable, match="is the instance running"),
    ):
        client.me()


def test_unknown_host() -> None:
    with (
        Client("https://no-such-host.invalid") as client,
        pytest.raises(Unreachable, match="is it spelled right"),
    ):
        client.me()


def test_no_tls_there(server: Server) -> None:
    with (
        Client(f"https://127.0.0.1:{server.server_port}") as client,
        pytest.raises(Untrusted, match="is the port right"),
    ):
        client.me()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key", directory / "certificate"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            "-subj",
            "/CN=x",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


def test_tls(server: Server, pair: tuple[Path, Path]) -> None:
    key, certificate = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answer = lambda handler: reply(handler, 200, json.dumps(ME).encode())
    with Client(f"https://localhost:{server.server_port}", ca=certificate) as client:
        assert client.me().username == "ada"
    with (
        Client(f"https://localhost:{server.server_port}") as client,
        pytest.raises(Untrusted, match="--ca FILE"),
    ):
        client.me()
    elsewhere = Client(f"https://127.0.0.1:{server.server_port}", ca=certificate)
    with elsewhere, pytest.raises(Untrusted, match="for another name"):
        elsewhere.me()


def test_no_authority(tmp_path: Path) -> None:
    with pytest.raises(GridAppsError, match="no file"):
        Client("https://x", ca=tmp_path / "none")
    (tmp_path / "bad").write_text("x")
    with pytest.raises(GridAppsError, match="PEM"):
        Client("https://x", ca=tmp_path / "bad")


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, GridAppsError, "no /arguments/x: too small"),
        (401, Unauthenticated, "no Log in with: gridapps login http://127.0.0.1"),
        (404, NotFound, "no"),
        (409, Conflict, "no"),
        (412, Conflict, "no"),
        (503, Unreachable, "no"),
    ],
)
def test_failures(server: Server, client: Client, status: int, kind: type[GridAppsError], said: str) -> None:
    body = {"error": "no", "code": "the-code"}
    if status == 400:
        body["fields"] = [{"pointer": "/arguments/x", "error": "too small"}]  # type: ignore[assignment]
    server.answer = lambda handler: reply(handler, status, json.dumps(body).encode())
    with pytest.raises(kind, match=said) as caught:
        client.me()
    assert (type(caught.value), caught.value.status, caught.value.code) == (kind, status, "the-code")


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1]", b'{"error": 3}', b"\xff", b"[" * 100_000])
def test_not_our_server(server: Server, client: Client, body: bytes) -> None:
    server.answer = lambda handler: reply(handler, 404, body)
    with pytest.raises(BadAnswer, match="is the URL right"):
        client.me()
    server.answer = lambda handler: reply(handler, 200, body)
    with pytest.raises(BadAnswer):
        client.me()


def test_a_redirect_is_not_followed(server: Server, client: Client) -> None:
    server.answer = lambda handler: reply(handler, 302, b"", Location="http://127.0.0.1:9/")
    with pytest.raises(BadAnswer):
        client.me()
    assert len(server.requests) == 1


def test_a_new_token(server: Server) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        good = handler.headers["Authorization"] == "Bearer new"
        reply(handler, 200 if good else 401, json.dumps(ME if good else {"error": "e", "code": "c"}).encode())

    server.answer = answer
    with Client(server.url, token="old", renew=lambda: "new") as client:
        assert client.me().username == "ada"
    asked = 0

    def renew() -> str:
        nonlocal asked
        asked += 1
        return f"also-old-{asked}"

    with Client(server.url, token="old", renew=renew) as client, pytest.raises(Unauthenticated):
        client.me()
    assert asked == 1


def _dropping(server: Server, times: int) -> None:
    """Closes the connection after reading each of the first `times` requests, then answers."""
    left = [times]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if left[0]:
            left[0] -= 1
            handler.close_connection = True
            return
        reply(handler, 202, json.dumps({"runs": [{"run_id": "r", "task_id": "r"}]}).encode())

    server.answer = answer


def test_a_submission_goes_again_under_the_same_key(server: Server, client: Client) -> None:
    _dropping(server, 2)
    assert client.submit("ground", export="1").run_id == "r"
    keys = {path.rpartition("/")[2] for method, path, _, _ in server.requests if method == "PUT"}
    assert len(server.requests) == 3
    assert len(keys) == 1
    assert uuid.UUID(keys.pop())


def test_a_post_does_not_go_again(server: Server, client: Client) -> None:
    _dropping(server, 1)
    with pytest.raises(Unreachable, match="broke off"):
        client.retry("r")
    assert len(server.requests) == 1


def test_silence(server: Server) -> None:
    done = threading.Event()

    def answer(_: BaseHTTPRequestHandler) -> None:
        done.wait(5)

    server.answer = answer
    with Client(server.url, timeout=0.05) as client, pytest.raises(Unreachable, match="silent"):
        client.me()
    done.set()


def test_the_token_goes_nowhere_else(server: Server, client: Client) -> None:
    pages = iter([{"apps": [], "next": "https://evil.example/api/v3/apps?after=x"}, {"apps": []}])
    server.answer = lambda handler: reply(handler, 200, json.dumps(next(pages)).encode())
    with pytest.raises(BadAnswer, match="endless pages"):
        list(client.apps())


def test_pages(server: Server, client: Client) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        export = {
            "pk": "1",
            "name": "n",
            "user": "u",
            "created_at": "2026-01-02T03:04:05.678901Z",
            "notes": "",
            "exportfiles": [],
        }
        first = "after" not in handler.path
        body = {"exports": [export | {"pk": "1" if first else "2"}]}
        if first:
            body["next"] = "https://evil.example/api/v3/exports?after=x%2B%3D&limit=1"  # type: ignore[assignment]
        reply(handler, 200, json.dumps(body).encode())

    server.answer = answer
    assert [each.pk for each in client.exports()] == ["1", "2"]
    assert server.requests[1][1] == "/api/v3/exports?after=x%2B%3D&limit=1"


def test_pages_without_end(server: Server, client: Client) -> None:
    export = {
        "pk": "1",
        "name": "n",
        "user": "u",
        "created_at": "2026-01-02T03:04:05.678901Z",
        "notes": "",
        "exportfiles": [],
    }
    body = {"exports": [export], "next": f"{server.url}/api/v3/exports?after=same"}
    server.answer = lambda handler: reply(handler, 200, json.dumps(body).encode())
    with pytest.raises(BadAnswer, match="endless pages"):
        list(client.exports())


def test_a_transport_without_token_sends_none(server: Server) -> None:
    server.answer = lambda handler: reply(handler, 200, b"{}")
    transport = Transport(server.url)
    transport.json("GET", "/")
    transport.close()
    assert "authorization" not in server.requests[0][2]
