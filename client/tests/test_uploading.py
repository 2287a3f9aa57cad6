"""Uploads over a connection that breaks, and to an instance that has a part of the files already."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from gridapps_client import Client, uploading
from gridapps_client.errors import GridAppsError, Unreachable
from gridapps_client.models import Upload

from client.tests.loopback import Server, reply

CONTENT = bytes(range(100))
UPLOAD = "00000000-0000-4000-8000-000000000001"


class Receiver:
    """An instance that receives one file, and fails as often as it is told to."""

    def __init__(self, server: Server, *, had: bytes = b"", known: bool = False) -> None:
        self.content, self.known = bytearray(had), known
        self.failures: list[str] = []
        self.state = "receiving"
        self.offsets: list[int] = []
        server.answer = self.answer
        self._server = server

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        method, path, headers, body = self._server.requests[-1]
        if method == "PATCH":
            self._receive(handler, int(headers["upload-offset"]), body)
        elif method == "GET" and path == "/api/v3/uploads":
            self._show(handler, 200, [self.shown()] if self.known else [])
        else:
            self._show(handler, 201 if method == "POST" else 200, [self.shown()])

    def _receive(self, handler: BaseHTTPRequestHandler, offset: int, body: bytes) -> None:
        self.offsets.append(offset)
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "lost":
            handler.close_connection = True
        elif failure == "away":
            reply(handler, 503, b"{}")
        elif offset != len(self.content):
            reply(handler, 409, b'{"error": "Elsewhere.", "code": "conflict"}')
        else:
            self.content += body
            if failure == "answer lost":
                handler.close_connection = True
            else:
                reply(handler, 204, b"")

    def _show(self, handler: BaseHTTPRequestHandler, status: int, uploads: list[Any]) -> None:
        body = {"uploads": uploads, "quota": {"used": 0, "limit": None}}
        reply(handler, status, json.dumps(body).encode(), Content_Type="application/json")

    def shown(self) -> dict[str, Any]:
        file = {
            "index": 0, "name": "a.laz", "size": 100, "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "offset": len(self.content), "reason": "", "url": "",
        }  # fmt: skip
        return {
            "id": UPLOAD, "name": "River", "skip_bad": False, "state": self.state, "reason": "",
            "export": None, "created_at": "2026-01-02T03:04:05Z", "expires_at": None, "ended_at": None,
            "files": [file],
        }  # fmt: skip


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "PART", 40)
    monkeypatch.setattr(uploading, "_PAUSES", (0.01,) * 3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.laz"
    path.write_bytes(CONTENT)
    return path


def test_file_is_sent_in_parts(client: Client, server: Server, file: Path) -> None:
    receiver, seen = Receiver(server), list[int]()
    uploading.upload(client, [file], name="River", progressed=seen.append)
    assert (bytes(receiver.content), receiver.offsets, sum(seen)) == (CONTENT, [0, 40, 80], 100)
    announced = json.loads(next(body for method, _, _, body in server.requests if method == "POST"))
    assert announced == {
        "name": "River", "skip_bad": False,
        "files": [{"name": "a.laz", "size": 100, "sha256": hashlib.sha256(CONTENT).hexdigest()}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("failures", "offsets"),
    [
        (["", "lost"], [0, 40, 40, 80]),
        (["", "answer lost"], [0, 40, 80]),
        (["away", "lost", "away"], [0, 0, 0, 0, 40, 80]),
    ],
)
def test_upload_continues_after_failures(
    client: Client, server: Server, file: Path, failures: list[str], offsets: list[int]
) -> None:
    receiver, seen = Receiver(server), list[int]()
    receiver.failures = failures
    uploading.upload(client, [file], name="River", progressed=seen.append)
    assert (bytes(receiver.content), receiver.offsets, sum(seen)) == (CONTENT, offsets, 100)


def test_upload_fails_after_a_long_outage(client: Client, server: Server, file: Path) -> None:
    receiver = Receiver(server)
    receiver.failures = ["away"] * 4
    with pytest.raises(Unreachable):
        uploading.upload(client, [file], name="River")
    assert len(receiver.offsets) == 4


def test_an_earlier_upload_is_continued(client: Client, server: Server, file: Path) -> None:
    receiver = Receiver(server, had=CONTENT[:70], known=True)
    uploading.upload(client, [file], name=" River ")
    assert (bytes(receiver.content), receiver.offsets) == (CONTENT, [70])
    assert "POST" not in {method for method, *_ in server.requests}


@pytest.mark.parametrize("change", ["content", "name", "state"])
def test_another_upload_is_not_continued(client: Client, server: Server, file: Path, change: str) -> None:
    receiver = Receiver(server, known=True)
    if change == "content":
        file.write_bytes(CONTENT[::-1])
    if change == "state":
        receiver.state = "checking"
    uploading.upload(client, [file], name="Lake" if change == "name" else "River")
    assert "POST" in {method for method, *_ in server.requests}


def test_a_file_that_shrinks_is_noticed(
    client: Client, server: Server, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Receiver(server)
    begin = client.begin_upload

    def shrinking(**announced: Any) -> Upload:
        begun = begin(**announced)
        file.write_bytes(CONTENT[:40])
        return begun

    monkeypatch.setattr(client, "begin_upload", shrinking)
    with pytest.raises(GridAppsError, match="was changed while it was sent"):
        uploading.upload(client, [file], name="River")


def test_a_file_that_is_not_there(client: Client, tmp_path: Path) -> None:
    with pytest.raises(GridAppsError, match="cannot be read: No such file"):
        uploading.upload(client, [tmp_path / "b.laz"], name="River")
