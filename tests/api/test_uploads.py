"""Uploads through the API: announcing, sending parts, states, and requests that are invalid."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from gridapps.exports import upload_checks
from gridapps.exports.models import ExportUpload
from gridapps.exports.receiving import MAX_FILES
from tests.api.conftest import Caller, Callers, caller

MEDIA_TYPE = "application/offset+octet-stream"
ABSENT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(autouse=True)
def incoming(tmp_path: Path, settings: Any) -> Path:
    settings.DATA = tmp_path
    for name in ("incoming", "exports"):
        (tmp_path / name).mkdir()
    return tmp_path / "incoming"


def begun(who: Caller, *sizes: int, **other: Any) -> dict[str, Any]:
    files = [{"name": f"{index}.laz", "size": size} for index, size in enumerate(sizes)]
    answer = who("POST", "/uploads", {"name": "city", "files": files, **other})
    assert answer.status_code == 201, answer.content
    (upload,) = answer.json()["uploads"]
    return dict(upload)


def send(who: Caller, upload: dict[str, Any], content: bytes, *, index: Any = 0, **other: Any) -> Any:
    headers = {"Upload-Offset": "0", "Tus-Resumable": "1.0.0", "content_type": MEDIA_TYPE} | other
    return who("PATCH", f"/uploads/{upload['id']}/files/{index}", content, **headers)


def test_an_upload_is_announced_sent_and_refused_with_its_reason(callers: Callers) -> None:
    who = callers.analyst
    upload = begun(who, 6, 5)
    assert (upload["state"], upload["export"], upload["reason"]) == ("receiving", None, "")
    first = upload["files"][0]
    origin = settings.GRIDAPPS.origin
    assert first["url"] == f"{origin}/api/v3/uploads/{upload['id']}/files/0"
    answer = send(who, upload, b"abcd")
    assert (answer.status_code, answer["Upload-Offset"], answer["Tus-Resumable"]) == (204, "4", "1.0.0")
    head = who("HEAD", f"/uploads/{upload['id']}/files/0")
    assert (head.status_code, head["Upload-Offset"], head["Upload-Length"]) == (200, "4", "6")
    assert head["Cache-Control"] == "no-store"
    assert head["Upload-Expires"].endswith("GMT")
    shown = who("GET", f"/uploads/{upload['id']}").json()
    assert [file["offset"] for file in shown["uploads"][0]["files"]] == [4, 0]
    assert shown["quota"] == {"used": 11, "limit": settings.GRIDAPPS.max_uploads}
    assert send(who, upload, b"ef", **{"Upload-Offset": "4"}).status_code == 204
    assert send(who, upload, b"ghijk", index=1).status_code == 204
    assert who("GET", "/uploads").json()["uploads"][0]["state"] == "checking"
    late = send(who, upload, b"x", index=1, **{"Upload-Offset": "5"})
    assert late.json() == {
        "error": "This upload takes no more data: it is checking.", "code": "conflict",
    }  # fmt: skip
    while (file := upload_checks.next_file(but=set())) is not None:
        upload_checks.check(file)
    upload_checks.finish()
    (ended,) = who("GET", f"/uploads/{upload['id']}").json()["uploads"]
    assert ended["state"] == "refused"
    assert [file["offset"] for file in ended["files"]] == [6, 5]
    assert all("not a LAS or LAZ file" in file["reason"] for file in ended["files"])
    assert ended["expires_at"] is None
    assert who("GET", "/uploads").json()["quota"]["used"] == 0
    assert who("DELETE", f"/uploads/{upload['id']}").status_code == 204
    assert who("DELETE", f"/uploads/{upload['id']}").status_code == 404


def test_clients_without_tus_name_no_version(callers: Callers) -> None:
    upload = begun(callers.analyst, 1)
    path = f"/uploads/{upload['id']}/files/0"
    headers = {"Upload-Offset": "0", "content_type": MEDIA_TYPE}
    assert callers.analyst("PATCH", path, b"a", **headers).status_code == 204


@pytest.mark.parametrize(
    ("headers", "content", "refusal"),
    [
        ({"Upload-Offset": "1"}, b"a", (409, "conflict")),
        ({}, b"x" * 11, (413, "too-large")),
        ({}, b"x" * (8 * 1024**2 + 1), (413, "too-large")),
        ({"Tus-Resumable": "0.2.2"}, b"a", (412, "precondition-failed")),
        ({"content_type": "application/json"}, b"1", (415, "unsupported-media-type")),
        ({"content_type": "multipart/form-data; boundary=x"}, b"a", (415, "unsupported-media-type")),
        (
            {"Upload-Checksum": "sha1 " + base64.b64encode(b"x" * 20).decode()},
            b"a",
            (460, "checksum-mismatch"),
        ),
        ({"Upload-Checksum": "sha1 " + base64.b64encode(b"x" * 19).decode()}, b"a", (400, "invalid-request")),
        ({"Upload-Checksum": "md5 " + base64.b64encode(b"x" * 16).decode()}, b"a", (400, "invalid-request")),
        ({"Upload-Checksum": "sha1"}, b"a", (400, "invalid-request")),
        ({"Upload-Checksum": "sha1 \u00e4"}, b"a", (400, "invalid-request")),
        *(
            ({"Upload-Offset": text}, b"a", (400, "invalid-request"))
            for text in ("", "-1", "+0", "0x0", "1e1", "0 ", " ", "\u0660", "9" * 16, "0,0")
        ),
    ],
)
def test_invalid_parts_are_not_stored(
    callers: Callers, incoming: Path, headers: dict[str, str], content: bytes, refusal: tuple[int, str]
) -> None:
    upload = begun(callers.analyst, 10)
    answer = send(callers.analyst, upload, content, **headers)
    assert (answer.status_code, answer.json()["code"]) == refusal
    assert sum(path.stat().st_size for path in incoming.iterdir()) == 0


def test_a_part_with_its_checksum(callers: Callers) -> None:
    upload = begun(callers.analyst, 10)
    for offset, name in enumerate(("sha1", "sha256")):
        digest = hashlib.new(name, b"a", usedforsecurity=False).digest()
        checksum = f"{name} {base64.b64encode(digest).decode()}"
        headers = {"Upload-Offset": str(offset), "Upload-Checksum": checksum}
        assert send(callers.analyst, upload, b"a", **headers).status_code == 204


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": 1}, "/name"),
        ({"files": []}, "/files"),
        ({"files": [{"name": f"{number}.laz", "size": 1} for number in range(MAX_FILES + 1)]}, "/files"),
        ({"files": [{"name": "a.laz", "size": 0}]}, "/files/0/size"),
        ({"files": [{"name": "a.laz", "size": 2**43 + 1}]}, "/files/0/size"),
        ({"files": [{"name": "a.laz", "size": "1"}]}, "/files/0/size"),
        ({"files": [{"name": "a.laz", "size": True}]}, "/files/0/size"),
        ({"files": [{"name": "a.laz"}]}, "/files/0/size"),
        ({"files": [{"name": "a.laz", "size": 1}, {"name": "a.laz", "size": 1}]}, "/files/0"),
        ({"files": [{"name": "../a.laz", "size": 1}]}, "/files/0"),
        ({"files": [{"name": "a.laz", "size": 1, "sha256": "x"}]}, "/files/0/sha256"),
        ({"skip_bad": "yes"}, "/skip_bad"),
        ({"owner": 1}, "/owner"),
    ],
)
def test_invalid_announcements(callers: Callers, change: dict[str, Any], pointer: str) -> None:
    body = {"name": "city", "files": [{"name": "a.laz", "size": 1}]} | change
    answer = callers.analyst("POST", "/uploads", body)
    assert answer.status_code == 400
    assert answer.json()["fields"][0]["pointer"] == pointer
    assert not ExportUpload.objects.exists()


def test_an_upload_beyond_the_quota(callers: Callers, settings: Any) -> None:
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"max_uploads": 10 * 1024})
    begun(callers.analyst, 6 * 1024)
    body = {"name": "city", "files": [{"name": "a.laz", "size": 5 * 1024}]}
    answer = callers.analyst("POST", "/uploads", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "quota-exceeded")
    assert answer.json()["error"].startswith("This upload has 5.0 KiB, but 4.0 KiB are left: your uploaded")
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"max_uploads": 0})
    assert callers.analyst("POST", "/uploads", body).json()["quota"]["limit"] is None


@pytest.mark.parametrize("method", ["HEAD", "PATCH"])
@pytest.mark.parametrize(
    "where", ["{id}/files/1", "{id}/files/00000", "{id}/files/x", ABSENT + "/files/0", "x/files/0"]
)
def test_files_that_are_not_there(callers: Callers, method: str, where: str) -> None:
    upload = begun(callers.analyst, 1)
    path = f"/uploads/{where.format(id=upload['id'])}"
    headers = {"Upload-Offset": "0", "content_type": MEDIA_TYPE}
    assert callers.analyst(method, path, b"a", **headers).status_code == 404


def test_a_token_that_may_see_exports_uploads_nothing(callers: Callers) -> None:
    upload = begun(callers.analyst, 1)
    narrow = caller(callers.analyst.user, "exports")
    assert narrow("GET", "/uploads").status_code == 200
    assert narrow("HEAD", f"/uploads/{upload['id']}/files/0").status_code == 200
    assert send(narrow, upload, b"a").json()["code"] == "insufficient-scope"
    writing = caller(callers.analyst.user, "exports:write")
    assert send(writing, upload, b"a").status_code == 204


def test_a_call_for_one_upload_takes_no_list(callers: Callers) -> None:
    keys = ",".join(begun(callers.analyst, 1)["id"] for _ in range(2))
    assert callers.analyst("DELETE", f"/uploads/{keys}").status_code == 404
    assert len(callers.analyst("GET", "/uploads").json()["uploads"]) == 2
