"""Uploading, renaming and deleting exports with the command."""

import hashlib

import pytest

from tests.client.conftest import Bench
from tests.fixtures.pointclouds import write_pointcloud

pytestmark = pytest.mark.system


def test_files_are_uploaded_renamed_and_deleted(bench: Bench) -> None:
    shell = bench.shell
    contents = [write_pointcloud(shell.home / f"{n}.laz", points=300 + n).read_bytes() for n in (3, 4)]
    files = [
        {"name": f"{n}.laz", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for n, content in zip((3, 4), contents, strict=True)
    ]
    with shell.instance.client(shell.token) as client:
        begun = client.post("/api/v3/uploads", json={"name": "River", "files": files}).json()["uploads"][0]
        headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        part = client.patch(begun["files"][0]["url"], content=contents[0][:1000], headers=headers)
    assert part.status_code == 204
    assert "receiving" in shell.must("exports", "uploads").out
    words = ("exports", "upload", "3.laz", "4.laz", "--name", "River")
    [ended] = shell.must(*words, "--json").json["uploads"]
    assert (ended["id"], ended["state"]) == (begun["id"], "ready"), "it continues what was begun"
    shown = shell.must("exports", "show", ended["export"]).out
    assert "River" in shown
    assert "303" in shown
    assert "Lake" in shell.must("exports", "rename", ended["export"], "Lake").out
    shell.must("run", bench.app, "--export", ended["export"], "-a", "do=write")
    assert shell.must("exports", "delete", ended["export"]).out == f"Deleted {ended['export']}.\n"
    assert shell.run("exports", "show", ended["export"]).status == 1
    shell.must("exports", "abandon", ended["id"])


def test_bad_files_are_named(bench: Bench) -> None:
    shell = bench.shell
    (shell.home / "bad.laz").write_bytes(b"x" * 500)
    write_pointcloud(shell.home / "good.laz", points=50)
    words = ("exports", "upload", "bad.laz", "good.laz", "--name", "Mixed")
    refused = shell.run(*words)
    assert refused.status == 1
    assert "bad.laz: This is not a LAS or LAZ file" in refused.err
    taken = shell.must(*words, "--skip-bad")
    assert taken.out.endswith(": 1 file.\n")
    assert "left out: bad.laz: This is not" in taken.err
    detached = shell.must("exports", "upload", "good.laz", "--name", "Later", "--detach").out
    assert "are being checked" in detached or "1 file" in detached
