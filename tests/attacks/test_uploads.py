"""A user, or a compromised application, attacks by uploading point clouds: through nginx, the application and
the importer."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gridapps.exports.receiving import MAX_FILE, MAX_OPEN
from gridapps.exports.upload_states import MAX_PART
from gridapps.server import accounts
from tests.attacks.conftest import LIMITS
from tests.attacks.scene import Scene, Victim
from tests.attacks.test_file_provider import lies
from tests.attacks.tries import assert_held
from tests.attacks.wire import request
from tests.fixtures.pointclouds import write_pointcloud

TYPE = {"Content-Type": "application/offset+octet-stream", "Tus-Resumable": "1.0.0"}
Begin = Callable[..., dict[str, Any]]
SET_ACTIVE = """
import sys, django
django.setup()
from gridapps.access.models import User
User.objects.filter(username=sys.argv[1]).update(is_active=sys.argv[2] == "yes")
"""


@pytest.fixture
def begin(scene: Scene) -> Iterator[Begin]:
    """Announce files of these sizes, as a user; all of the user's uploads are deleted afterwards."""
    begun: list[tuple[Victim, str]] = []

    def announce(who: Victim, *sizes: int, **more: Any) -> dict[str, Any]:
        files = [{"name": f"{index}.laz", "size": size} for index, size in enumerate(sizes)]
        body = {"name": "x", "files": files, **more}
        upload = dict(who.ask("POST", "/uploads", expect=201, json=body).json()["uploads"][0])
        begun.append((who, upload["id"]))
        return upload

    yield announce
    for who, upload in begun:
        who.ask("DELETE", f"/uploads/{upload}", expect=204)


def _shown(who: Victim, upload: dict[str, Any]) -> dict[str, Any]:
    return dict(who.ask("GET", f"/uploads/{upload['id']}").json()["uploads"][0])


def _arrived(who: Victim, upload: dict[str, Any]) -> int:
    return int(_shown(who, upload)["files"][0]["offset"])


def _ended(scene: Scene, who: Victim, upload: dict[str, Any]) -> dict[str, Any]:
    scene.instance.wait_until(lambda: _shown(who, upload)["ended_at"], what="checked the upload")
    return _shown(who, upload)


def _send(
    client: httpx.Client, upload: dict[str, Any], content: Any, *, index: int = 0, offset: str | int = 0
) -> int:
    headers: Any = {**TYPE, "Upload-Offset": str(offset).encode()}
    answer = client.patch(f"/api/v3/uploads/{upload['id']}/files/{index}", content=content, headers=headers)
    return answer.status_code


def _spellings(upload: str) -> list[str]:
    plain = upload.replace("-", "")
    return [
        upload,
        upload.upper(),
        plain,
        f"{{{upload}}}",
        f"urn:uuid:{upload}",
        f"%7B{upload}%7D",
        f"{upload}%00",
    ]


def test_an_upload_of_another_cannot_be_found_continued_or_deleted(scene: Scene, begin: Begin) -> None:
    theirs, mine = begin(scene.ann, 10), begin(scene.otto, 10)
    beside = [f"{mine['id']}/../{theirs['id']}", f"{mine['id']}%2f..%2f{theirs['id']}"]
    paths = [
        path
        for key in (*_spellings(theirs["id"]), *beside)
        for path in (f"/uploads/{key}", f"/uploads/{key}/files/0")
    ]  # fmt: skip
    paths += [f"/uploads/{mine['id']}/files/../../{theirs['id']}/files/0"]
    with scene.otto.client() as client:

        def got_through(path: str) -> object:
            found = []
            for method in ("GET", "HEAD", "PATCH", "DELETE", "PUT", "POST"):
                headers = {**TYPE, "Upload-Offset": "0"} if method == "PATCH" else {}
                answer = client.request(
                    method, f"/api/v3{path}", content=b"x" if method == "PATCH" else None, headers=headers
                )
                if answer.is_success or "0.laz" in answer.text:
                    found.append((method, answer.status_code))
            return found

        assert_held(paths, got_through)
        indexes = [
            "1",
            "9999",
            "-1",
            "+0",
            "0x0",
            "0.0",
            "%00",
            "0%00",
            "\uff10",
            "\u0660",
            "0/0",
            "00000",
        ]
        assert_held(
            indexes, lambda index: client.get(f"/api/v3/uploads/{mine['id']}/files/{index}").is_success
        )
    assert _arrived(scene.ann, theirs) == 0
    assert theirs["id"] not in scene.otto.ask("GET", "/uploads").text


OFFSETS = [
    "-1", "-0", "+0", "1", "10", "11", "0x0", "0e0", "0.0", "0,0", "0;", "0 0", "9" * 15, "9" * 16, "9" * 400,
    str(2**63), str(2**64), "NaN", "null", "\u0660", "",
]  # fmt: skip


def test_a_part_begins_where_the_last_one_ended_and_nowhere_else(scene: Scene, begin: Begin) -> None:
    upload = begin(scene.otto, 10)
    with scene.otto.client() as client:
        assert_held(
            OFFSETS,
            lambda offset: _send(client, upload, b"x", offset=offset) not in (400, 409),
        )
        twice = [*TYPE.items(), ("Upload-Offset", "0"), ("Upload-Offset", "0")]
        answer = client.patch(f"/api/v3/uploads/{upload['id']}/files/0", content=b"x", headers=twice)
        assert answer.status_code == 400
    assert _arrived(scene.otto, upload) == 0


SIZES = [
    "0", "-1", "-0", "1.5", "1e400", "NaN", "Infinity", '"10"', "true", "null", "[]", "{}", str(MAX_FILE + 1),
    str(2**63), str(2**64), "9" * 400,
]  # fmt: skip


def test_sizes_that_are_none_and_uploads_of_unknown_length_are_refused(scene: Scene) -> None:
    """tus knows uploads whose length is told later. Here every size is announced, and counts at once."""
    with scene.otto.client() as client:

        def answered(body: str, **headers: str) -> int:
            given = {"Content-Type": "application/json", **headers}
            return client.post("/api/v3/uploads", content=body, headers=given).status_code

        body = '{"name": "x", "files": [%s]}'
        one = '{"name": "0.laz", "size": %s}'
        assert_held(SIZES, lambda size: answered(body % (one % size)) // 100 != 4)
        without = ['{"name": "0.laz"}', "", ", ".join([one % 1] * 2), ", ".join([one % 1] * 1001)]
        assert_held(without, lambda files: answered(body % files) // 100 != 4)
        deferred = {"Upload-Defer-Length": "1", "Tus-Resumable": "1.0.0"}
        assert answered("", **deferred) // 100 == 4
        assert answered(body % '{"name": "0.laz"}', **deferred) // 100 == 4
        assert answered("", **{"Upload-Length": "10", "Tus-Resumable": "1.0.0"}) // 100 == 4
    quota = LIMITS["max_uploads"]
    announced = {
        "one file": [quota + 1],
        "together": [quota // 2, quota // 2 + 1],
        "more than any number": [MAX_FILE] * 1000,
    }

    def begins(sizes: list[int]) -> object:
        files = [{"name": f"{index}.laz", "size": size} for index, size in enumerate(sizes)]
        with scene.otto.client() as client:
            answer = client.post("/api/v3/uploads", json={"name": "x", "files": files})
        return answer.is_success or "your uploaded exports take" not in answer.json()["error"]

    assert_held(announced, begins)
    assert scene.otto.ask("GET", "/uploads").json()["uploads"] == []


def test_bodies_that_are_longer_shorter_or_of_unknown_length(scene: Scene, begin: Begin) -> None:
    """More than was announced is refused with a sentence; nothing of it is kept."""
    upload = begin(scene.otto, 1000)
    path = f"/api/v3/uploads/{upload['id']}/files/0"

    def endless() -> Iterator[bytes]:
        for _ in range(MAX_PART // 65536 + 1):
            yield bytes(65536)

    with scene.otto.client() as client:
        answer = client.patch(path, content=iter([b"x" * 1001]), headers={**TYPE, "Upload-Offset": "0"})
        assert (answer.status_code, answer.json()["error"]) == (
            413,
            "The file was announced with 1000 bytes.",
        )
        try:
            answer = client.patch(path, content=endless(), headers={**TYPE, "Upload-Offset": "0"})
            assert answer.json()["error"] == f"A part of an upload has at most {MAX_PART} bytes."
        except httpx.TransportError:  # nginx closes while it is sending
            pass
    lines = [
        f"Authorization: Bearer {scene.otto.token}",
        "Upload-Offset: 0",
        *(": ".join(each) for each in TYPE.items()),
    ]
    two: dict[str, list[str]] = {
        "two lengths": ["Content-Length: 3", "Content-Length: 1000"],
        "a length and chunks": ["Content-Length: 3", "Transfer-Encoding: chunked"],
        "negative": ["Content-Length: -1"],
        "huge": [f"Content-Length: {2**64 + 3}"],
        "a list": ["Content-Length: 3, 3"],
    }
    wire = scene.wire()

    def taken(more: list[str]) -> bool:
        body = request(path, *lines, *more, method="PATCH", body=b"abc")
        return wire.status(body, method="PATCH") // 100 == 2

    assert_held(two, taken)
    with wire.connect() as secure:  # it ends in the middle
        secure.sendall(request(path, *lines, "Content-Length: 1000", method="PATCH") + b"x" * 500)
    for method in ("POST", "PUT"):
        given = [*lines, "X-HTTP-Method-Override: PATCH"]
        assert wire.status(request(path, *given, method=method, body=b"abc")) // 100 == 4
    assert _arrived(scene.otto, upload) == 0


NAMES = [
    "../x.laz", "..", ".", "a/../../x.laz", "/etc/passwd", "a\\x.laz", ".x.laz", "-x.laz", "a\n.laz",
    "a\0.laz", "a\x1b[2J.laz", "\u202ezal.x.laz", "a\u2066.laz", "a\u200b.laz", "a\u2028.laz", "\ufeffa.laz",
    "a\x7f.laz", "x" * 252 + ".laz", "", "a.exe", "a.laz.sh",
]  # fmt: skip


def test_names_that_mislead_are_refused(scene: Scene) -> None:
    def begins(name: str) -> object:
        files = [{"name": name, "size": 10}]
        with scene.otto.client() as client:
            answer = client.post("/api/v3/uploads", json={"name": "x", "files": files})
        return answer.status_code // 100 != 4 or "Traceback" in answer.text

    assert_held(NAMES, begins)
    assert scene.otto.ask("GET", "/uploads").json()["uploads"] == []


def test_the_longest_name_is_stored_and_shown(scene: Scene, begin: Begin, tmp_path: Path) -> None:
    """255 characters are up to 1,020 bytes, more than a name of a file may have. It is none."""
    content = write_pointcloud(tmp_path / "a.laz", points=10).read_bytes()
    name = "\U0001f30d" * 251 + ".laz"
    upload = begin(scene.otto, files=[{"name": name, "size": len(content)}])
    with scene.otto.client() as client:
        assert _send(client, upload, content) == 204
    shown = _ended(scene, scene.otto, upload)
    assert (shown["state"], shown["files"][0]["name"]) == ("ready", name)
    scene.otto.ask("DELETE", f"/exports/{shown['export']}", expect=204)


def test_parts_that_arrive_at_once_are_appended_once(scene: Scene, begin: Begin) -> None:
    """Two application processes receive them."""
    part, count = 64 * 1024, 6
    upload = begin(scene.otto, part * count)
    for number in range(count):

        def send(sender: int, number: int = number) -> int:
            with scene.otto.client() as client:
                return _send(client, upload, bytes([sender]) * part, offset=number * part)

        with ThreadPoolExecutor(8) as pool:
            answers = sorted(pool.map(send, range(8)))
        assert (answers.count(204), set(answers)) == (1, {204, 409}), answers
        if number < count - 1:
            assert _arrived(scene.otto, upload) == (number + 1) * part
            (file,) = (scene.instance.data / "incoming").glob(f"{upload['id'].replace('-', '')}.*")
            content = file.read_bytes()
            assert len(content) == (number + 1) * part
            assert all(len(set(content[at : at + part])) == 1 for at in range(0, len(content), part))


def test_limits_hold_when_requests_arrive_at_once(scene: Scene) -> None:
    """A quota that two processes check at the same moment is not exceeded, nor is the number of uploads."""

    def announce(size: int) -> int:
        files = [{"name": "a.laz", "size": size}]
        with scene.otto.client() as client:
            return client.post("/api/v3/uploads", json={"name": "race", "files": files}).status_code

    def race(size: int) -> int:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(announce, [size] * 24))
        found = scene.otto.ask("GET", "/uploads?limit=100").json()
        assert found["quota"]["used"] <= LIMITS["max_uploads"]
        for upload in found["uploads"]:
            scene.otto.ask("DELETE", f"/uploads/{upload['id']}", expect=204)
        assert all(answer // 100 in (2, 4) or answer == 507 for answer in answers), answers
        return answers.count(201)

    assert race(LIMITS["max_uploads"] // 3) == 3
    assert race(1) == MAX_OPEN
    assert scene.otto.ask("GET", "/uploads").json()["quota"]["used"] == 0


def test_files_that_lie_are_left_out_each_with_a_reason(scene: Scene, begin: Begin, tmp_path: Path) -> None:
    good = write_pointcloud(tmp_path / "good.laz", points=500).read_bytes()
    contents = {name: content for name, content in lies(good).items() if content}
    files = [{"name": f"{name}.laz", "size": len(content)} for name, content in contents.items()]
    files.append({"name": "good.laz", "size": len(good)})
    upload = begin(scene.otto, files=files, skip_bad=True)
    with scene.otto.client() as client:
        for index, content in enumerate((*contents.values(), good)):
            assert _send(client, upload, content, index=index) == 204
    shown = _ended(scene, scene.otto, upload)
    assert shown["state"] == "ready", shown
    taken = {file["name"].removesuffix(".laz") for file in shown["files"] if not file["reason"]}
    # Noise that decodes to points within the bounds cannot be distinguished from a point cloud.
    assert taken - {"points-of-noise"} == {"good"}
    assert list((scene.instance.data / "incoming").glob(f"{upload['id'].replace('-', '')}.*")) == []
    scene.otto.ask("DELETE", f"/exports/{shown['export']}", expect=204)


@contextmanager
def _inactive(scene: Scene, who: Victim) -> Iterator[None]:
    def set_active(word: str) -> None:
        environment = scene.instance.environment | {"DJANGO_SETTINGS_MODULE": "gridapps.config.settings"}
        command = [sys.executable, "-c", SET_ACTIVE, who.name, word]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    set_active("no")
    try:
        yield
    finally:
        set_active("yes")


def test_an_upload_ends_with_the_access_of_its_user(scene: Scene, begin: Begin, tmp_path: Path) -> None:
    """A token that is still there opens nothing; what had arrived completely is checked as ever."""
    content = write_pointcloud(tmp_path / "a.laz", points=10).read_bytes()
    open_, whole = begin(scene.otto, 10), begin(scene.otto, len(content))
    with scene.otto.client() as client:
        assert _send(client, open_, b"x") == 204
        assert _send(client, whole, content) == 204
        with _inactive(scene, scene.otto):
            assert _send(client, open_, b"x", offset=1) == 401
            assert client.get(f"/api/v3/uploads/{open_['id']}").status_code == 401
            assert client.delete(f"/api/v3/uploads/{open_['id']}").status_code == 401
            assert client.post("/api/v3/uploads", json={}).status_code == 401
    assert _arrived(scene.otto, open_) == 1
    shown = _ended(scene, scene.otto, whole)
    scene.otto.ask("DELETE", f"/exports/{shown['export']}", expect=204)


PLANT = """
import json, os, sys
plan = json.load(sys.stdin)
found = {}
for what, (path, target) in plan.items():
    try:
        if what == "link":
            os.symlink(target, path)
        elif what == "directory":
            os.mkdir(path)
        elif what == "pipe":
            os.mkfifo(path)
        elif what == "hard link":
            os.link(target, path)
        elif what == "in exports":
            open(path, "x")
        elif what == "in the place of incoming":
            os.rename(path, path + ".moved")
        found[what] = "done"
    except OSError as error:
        found[what] = type(error).__name__
json.dump(found, sys.stdout)
"""


def test_what_the_application_plants_for_the_importer_gives_it_nothing(
    scene: Scene, begin: Begin, tmp_path: Path
) -> None:
    """A compromised application owns `incoming/`, and marks in the database what it likes as arrived."""
    data = scene.instance.data
    if together := accounts.find(data).together:
        pytest.skip(" ".join(together.values()))
    secret, export = data / "database" / "gridapps.sqlite3", next((data / "exports").glob("*/*"))
    planted = {"link": begin(scene.otto, len(str(secret))), "pipe": begin(scene.otto, 1)}
    planted["directory"] = begin(scene.otto, 4096)
    places = {what: data / "incoming" / f"{each['id'].replace('-', '')}.0" for what, each in planted.items()}
    plan = {what: (str(path), str(secret)) for what, path in places.items()}
    plan["hard link"] = (str(data / "incoming" / f"{uuid.uuid4().hex}.0"), str(export))
    plan["in exports"] = (str(export.parent / "planted"), "")
    plan["in the place of incoming"] = (str(data / "incoming"), "")
    command = [*accounts.command(accounts.find(data).found["application"]), sys.executable, "-c", PLANT]
    done = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [found.pop(what) for what in places] == ["done"] * len(places)
    assert set(found.values()) <= {"PermissionError"}, found
    with scene.otto.client() as client:
        for upload in planted.values():
            assert _send(client, upload, b"x") // 100 in (4, 5)
    content = write_pointcloud(tmp_path / "a.laz", points=10).read_bytes()
    good = begin(scene.ann, len(content))
    with scene.ann.client() as client:
        assert _send(client, good, content) == 204
    shown = _ended(scene, scene.ann, good)
    assert shown["state"] == "ready"
    (file,) = (data / "exports" / good["id"].replace("-", "")).iterdir()
    assert (file.stat().st_nlink, file.stat().st_mode & 0o777) == (1, 0o444)
    scene.ann.ask("DELETE", f"/exports/{shown['export']}", expect=204)
    places["directory"].rmdir()
