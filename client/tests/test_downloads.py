"""Downloads stay inside the directory, are atomic, and are resumed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from gridapps_client import BadAnswer, Client, GridAppsError, Unreachable
from gridapps_client.downloads import place, select
from gridapps_client.models import Output

from client.tests.loopback import Server, reply

CONTENT = bytes(range(256)) * 4096


def output(path: str = "0/dtm.tif", content: bytes = CONTENT) -> Output:
    digest = hashlib.sha256(content).hexdigest()
    return Output(
        path=path, task="t", size=len(content), sha256=digest, media_type="x/y", partial=False, url=""
    )


def ranged(content: bytes = CONTENT, *, most: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """Serves ranges; closes the connection after `most` bytes of each answer."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        rest = content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest if most is None else rest[:most])

    return answer


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "0/../../x", "0//x", "", ".", "0/.", "0/x\0y", "..", "0/", "/"],
)
def test_paths_that_lead_astray(path: str, tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = ranged()
    with pytest.raises(BadAnswer, match="unsafe path"):
        client.download("run", output(path), to=tmp_path / "to")
    assert list(tmp_path.rglob("*")) == []
    assert server.requests == []


def test_no_symbolic_link_is_followed(tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = ranged()
    outside, to = tmp_path / "outside", tmp_path / "to"
    outside.mkdir()
    to.mkdir()
    (to / "0").symlink_to(outside)
    with pytest.raises(BadAnswer, match="symbolic link"):
        client.download("run", output(), to=to)
    (to / "0").unlink()
    (to / "0").mkdir()
    (outside / "victim").write_text("kept")
    (to / "0" / "dtm.tif").symlink_to(outside / "victim")
    with pytest.raises(GridAppsError, match="not a regular file"):
        client.download("run", output(), to=to, overwrite=True)
    (to / "0" / f".gridapps-{output().sha256[:32]}.part").symlink_to(outside / "victim")
    (to / "0" / "dtm.tif").unlink()
    with pytest.raises(GridAppsError, match="cannot be written"):
        client.download("run", output(), to=to)
    assert (outside / "victim").read_text() == "kept"
    assert [each.name for each in outside.iterdir()] == ["victim"]


def test_a_directory_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("a file")
    with pytest.raises(GridAppsError, match="cannot be written"):
        place(tmp_path, "0/x/y")


@pytest.mark.parametrize(
    "name", ["plain.txt", "with space", "ünï", "new\nline", "a%2Fb?c#d", "-rf", "x" * 255]
)
def test_odd_names_arrive(name: str, tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = ranged()
    path = client.download("run", output(f"0/{name}"), to=tmp_path / "to")
    assert path == tmp_path / "to" / "0" / name
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == [name]
    assert not any(character in server.requests[0][1] for character in " ?#\n")


def test_goes_on_after_a_break(tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = ranged(most=len(CONTENT) // 3)
    counted: list[int] = []
    path = client.download("run", output(), to=tmp_path / "to", progressed=counted.append)
    assert path.read_bytes() == CONTENT
    assert sum(counted) == len(CONTENT)
    starts = [headers.get("range") for _, _, headers, _ in server.requests]
    assert len(starts) > 2
    assert starts[:2] == [None, f"bytes={len(CONTENT) // 3}-"]


def test_goes_on_in_a_later_call(tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = ranged(most=1000)
    with pytest.raises(Unreachable):
        client.download("run", output(), to=tmp_path / "to")
    left = [each for each in (tmp_path / "to").rglob("*") if each.is_file()]
    assert [each.suffix for each in left] == [".part"]
    done = left[0].stat().st_size
    assert done >= 1000
    server.answer = ranged()
    server.requests.clear()
    assert client.download("run", output(), to=tmp_path / "to").read_bytes() == CONTENT
    assert server.requests[0][2]["range"] == f"bytes={done}-"


def test_what_is_there_is_not_fetched_again(tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = ranged()
    path = client.download("run", output(), to=tmp_path)
    client.download("run", output(), to=tmp_path)
    assert len(server.requests) == 1
    path.write_text("mine")
    with pytest.raises(GridAppsError, match="--overwrite"):
        client.download("run", output(), to=tmp_path)
    assert path.read_text() == "mine"
    client.download("run", output(), to=tmp_path, overwrite=True)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "sent", [CONTENT[:-1] + b"x", CONTENT + b"more", CONTENT[:-1]], ids=["changed", "longer", "shorter"]
)
def test_another_content_than_promised(sent: bytes, tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = ranged(sent)
    counted: list[int] = []
    with pytest.raises(BadAnswer, match="announced size or SHA-256"):
        client.download("run", output(), to=tmp_path / "to", progressed=counted.append)
    assert sum(counted) <= len(CONTENT), "more than the promised size was taken"
    assert [each.stat().st_size for each in (tmp_path / "to").rglob("*") if each.is_file()] == [0]
    server.answer = ranged()
    assert client.download("run", output(), to=tmp_path / "to").read_bytes() == CONTENT


def test_a_server_that_does_not_go_on(tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = ranged(most=1000)
    with pytest.raises(Unreachable):
        client.download("run", output(), to=tmp_path)
    server.answer = lambda handler: reply(handler, 200, CONTENT)
    with pytest.raises(BadAnswer, match="did not resume"):
        client.download("run", output(), to=tmp_path)


def test_an_empty_output(tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = ranged(b"")
    assert client.download("run", output(content=b""), to=tmp_path).read_bytes() == b""


def test_zip(tmp_path: Path, server: Server, client: Client) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("0/a", CONTENT)
    server.answer = lambda handler: reply(handler, 200, packed.getvalue())
    target = client.download_zip("run", to=tmp_path / "to" / "run.zip")
    assert zipfile.ZipFile(target).read("0/a") == CONTENT
    with pytest.raises(GridAppsError, match="exists already"):
        client.download_zip("run", to=target)
    server.answer = lambda handler: reply(handler, 200, packed.getvalue()[:-40])
    with pytest.raises(BadAnswer, match="damaged"):
        client.download_zip("run", to=tmp_path / "other.zip")
    assert [each.name for each in (tmp_path / "to").iterdir()] == ["run.zip"]
    assert not list(tmp_path.glob("*other*"))


def _packed() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("0/a", CONTENT)
    return packed.getvalue()


def tagged(content: bytes, tag: str, *, most: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """As `ranged`, with an entity tag, and the whole content if If-Range names another."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        resumed = handler.headers.get("If-Range") == tag
        start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-")) if resumed else 0
        rest = content[start:]
        handler.send_response(206 if resumed else 200)
        handler.send_header("ETag", tag)
        if resumed:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest if most is None else rest[:most])

    return answer


def test_zip_resumes_after_a_broken_connection(tmp_path: Path, server: Server, client: Client) -> None:
    packed, counted = _packed(), list[int]()
    server.answer = tagged(packed, '"one"', most=len(packed) // 3)
    done = client.download_zip("run", to=tmp_path / "run.zip", progressed=counted.append)
    assert done.read_bytes() == packed
    assert sum(counted) == len(packed)
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["run.zip"]


def test_zip_resumes_in_a_later_call(tmp_path: Path, server: Server, client: Client) -> None:
    packed = _packed()
    server.answer = tagged(packed, '"one"', most=1000)
    with pytest.raises(Unreachable):
        client.download_zip("run", to=tmp_path / "run.zip")
    server.answer = tagged(packed, '"one"')
    server.requests.clear()
    assert client.download_zip("run", to=tmp_path / "run.zip").read_bytes() == packed
    headers = server.requests[-1][2]
    assert (headers["range"], headers["if-range"]) == ("bytes=5000-", '"one"')


def test_a_zip_that_has_changed_starts_again(tmp_path: Path, server: Server, client: Client) -> None:
    server.answer = tagged(b"x" * 9000, '"one"', most=1000)
    with pytest.raises(Unreachable):
        client.download_zip("run", to=tmp_path / "run.zip")
    packed, turns = _packed(), iter(["break", "other", "other"])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        # The zip changes while it is being resumed.
        turn = next(turns)
        tagged(packed, f'"{turn}"', most=2000 if turn == "break" else None)(handler)

    server.answer = answer
    assert client.download_zip("run", to=tmp_path / "run.zip").read_bytes() == packed


def test_a_damaged_zip(tmp_path: Path, server: Server, client: Client) -> None:
    packed = bytearray(_packed())
    packed[len(packed) // 2] ^= 1
    server.answer = tagged(bytes(packed), '"one"')
    with pytest.raises(BadAnswer, match="the checksum of '0/a' is wrong"):
        client.download_zip("run", to=tmp_path / "run.zip")
    assert not [each for each in tmp_path.iterdir() if each.is_file()], "nothing to resume a damaged zip with"


def test_select() -> None:
    outputs = [output(path) for path in ("0/a.tif", "0/sub/b.tif", "1/a.tif", "10/c.json")]

    def chosen(*wanted: str) -> list[str]:
        return [each.path for each in select(outputs, wanted)]

    assert chosen() == [each.path for each in outputs]
    assert chosen("0/a.tif") == ["0/a.tif"]
    assert chosen("1") == chosen("1/") == ["1/a.tif"]
    assert chosen("*.tif", "0") == ["0/a.tif", "0/sub/b.tif", "1/a.tif"]
    with pytest.raises(GridAppsError, match=r"No output matches '\*\.laz'"):
        chosen("0", "*.laz")
