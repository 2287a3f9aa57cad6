"""Uploads to a running instance: through nginx, by the application, into the importer and to a run. Exports
are in a directory, or in S3."""

import hashlib
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gridapps.exports.upload_states import MAX_PART
from gridapps.server import accounts
from tests.fixtures.instance import new_instance
from tests.fixtures.pointclouds import write_pointcloud
from tests.fixtures.s3 import CREDENTIALS, S3Server, serving
from tests.instance.conftest import SetStage, Stage

pytestmark = pytest.mark.system
TYPE = {"Content-Type": "application/offset+octet-stream", "Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module", params=["directory", "s3"])
def stage(
    request: pytest.FixtureRequest, stage: Stage, set_stage: SetStage, server: S3Server
) -> Iterator[Stage]:
    if request.param == "directory":
        yield stage
        return
    instance = new_instance(storage="s3://grid/p", s3_endpoint=server.endpoint)
    instance.settings |= CREDENTIALS
    try:
        instance.start()
        yield set_stage(instance)
    finally:
        instance.remove()


def begin(stage: Stage, *sizes: int) -> dict[str, Any]:
    files = [{"name": f"{index}.laz", "size": size} for index, size in enumerate(sizes)]
    answer = stage.developer.ask("POST", "/uploads", expect=201, json={"name": "River", "files": files})
    return dict(answer.json()["uploads"][0])


def path_of(upload: dict[str, Any], index: int = 0) -> str:
    return urlsplit(upload["files"][index]["url"]).path.removeprefix("/api/v3")


def send(stage: Stage, upload: dict[str, Any], content: bytes, *, offset: int = 0, expect: int = 204) -> Any:
    headers = {**TYPE, "Upload-Offset": str(offset)}
    return stage.developer.ask("PATCH", path_of(upload), expect=expect, content=content, headers=headers)


def ended(stage: Stage, upload: dict[str, Any]) -> dict[str, Any]:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        shown = stage.developer.ask("GET", f"/uploads/{upload['id']}").json()["uploads"][0]
        if shown["ended_at"]:
            return dict(shown)
        time.sleep(0.2)
    raise AssertionError(f"{shown}\n{stage.instance.tail()}")


def arrived(stage: Stage, upload: dict[str, Any]) -> int:
    return int(stage.developer.ask("HEAD", path_of(upload)).headers["Upload-Offset"])


def cut(stage: Stage, upload: dict[str, Any], content: bytes, *, offset: int) -> None:
    """Send the head of a request and half of its body, and close the connection."""
    context = ssl.create_default_context(cafile=str(stage.instance.ca))
    host, _, port = stage.instance.authority.partition(":")
    head = (
        f"PATCH /api/v3{path_of(upload)} HTTP/1.1\r\nHost: {stage.instance.authority}\r\n"
        f"Authorization: Bearer {stage.developer.token}\r\nUpload-Offset: {offset}\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(head.encode() + content[: len(content) // 2])


def test_an_upload_is_resumed_renamed_and_run_on(stage: Stage, server: S3Server) -> None:
    content = write_pointcloud(stage.developer.home / "river.laz", points=4000).read_bytes()
    upload = begin(stage, len(content))
    first, rest = content[:5000], content[5000:]
    send(stage, upload, first)
    cut(stage, upload, rest, offset=5000)
    assert arrived(stage, upload) == 5000
    assert send(stage, upload, first, expect=409).json()["code"] == "conflict"
    os.kill(stage.instance.part("application"), signal.SIGKILL)
    os.kill(stage.instance.part("importer"), signal.SIGKILL)
    stage.instance.wait_until(stage.instance.answers, what="answering again")
    assert arrived(stage, upload) == 5000
    send(stage, upload, rest, offset=5000)
    shown = ended(stage, upload)
    assert (shown["state"], shown["reason"]) == ("ready", "")
    export = shown["export"]
    stage.developer.ask("PATCH", f"/exports/{export}", json={"name": "Lake"})
    assert stage.developer.ask("GET", f"/exports/{export}").json()["exports"][0]["name"] == "Lake"
    run = stage.developer.submit(stage.app, export, arguments={"do": "summary"})
    stage.developer.wait(run, "SUCCESS")
    digest = hashlib.sha256(content).hexdigest()
    assert stage.developer.output(run, "0/sub/input.sha256").decode().split()[0] == digest
    name = upload["id"].replace("-", "")
    assert list((stage.instance.data / "incoming").glob(f"{name}*")) == []
    if stored_in_s3(stage):
        assert (server.bucket / "p" / "exports" / digest).read_bytes() == content
        assert not (stage.instance.data / "exports").exists()
    else:
        _assert_stored(stage, stage.instance.data / "exports" / name, content)
    stage.developer.ask("DELETE", f"/exports/{export}", expect=204)
    stage.developer.ask("GET", f"/exports/{export}", expect=404)


def stored_in_s3(stage: Stage) -> bool:
    return "GRIDAPPS_STORAGE" in stage.instance.settings


def _assert_stored(stage: Stage, directory: Path, content: bytes) -> None:
    (file,) = directory.iterdir()
    assert file.read_bytes() == content
    importer = accounts.find(stage.instance.data).found.get("importer")
    if importer is not None:
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (importer.uid, 0o444)


def test_a_part_has_a_limit(stage: Stage) -> None:
    upload = begin(stage, MAX_PART + 1)
    refused = send(stage, upload, b"x" * (MAX_PART + 1), expect=413)
    assert refused.json()["error"] == "A part of an upload has at most 8388608 bytes."
    send(stage, upload, b"x" * MAX_PART)
    assert arrived(stage, upload) == MAX_PART
    stage.developer.ask("DELETE", f"/uploads/{upload['id']}", expect=204)


def test_invalid_files_are_refused_with_a_reason(stage: Stage) -> None:
    upload = begin(stage, 1000)
    send(stage, upload, b"x" * 1000)
    shown = ended(stage, upload)
    assert shown["state"] == "refused"
    assert shown["reason"].startswith("0.laz: This is not a LAS or LAZ file")
