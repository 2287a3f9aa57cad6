"""The disk that a developer's images take, and the limit on it, over the storage of a real registry."""

import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from gridapps.audit.models import Entry
from gridapps.housekeeping import sweeping
from gridapps.oci.manifests import OCI_MANIFEST
from gridapps.pushes import disk, quota
from gridapps.pushes.quota import AROUND
from gridapps.registry import operations
from gridapps.storage import free_disk
from tests.fixtures.cast import Cast
from tests.registry.built import Image, digest, layer
from tests.registry.conftest import Developer, Refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("its_disk")]
KIB = 1024


def used(developer: Developer) -> int:
    return quota.used(developer.app.owner)


def begin(developer: Developer) -> str:
    """A new upload; where it goes on."""
    return developer.request("POST", f"/v2/{developer.name}/blobs/uploads/", expect=202).headers["Location"]


def judge(developer: Developer, uri: str, length: int | None, method: str = "PATCH") -> Any:
    """The application's answer about a body of this length, or of none that it tells."""
    more = (
        {"X-Original-Transfer-Encoding": "chunked"} if length is None else {"X-Original-Length": str(length)}
    )
    asked = {"X-Original-Method": method, "X-Original-URI": uri, **more}
    return developer.ask("GET", "/registry/authorize", b"", **asked)


def test_everything_in_the_repositories_counts(developer: Developer, cast: Cast) -> None:
    assert used(developer) == 0
    image = Image(layers=[layer(content=secrets.token_bytes(3000))])
    developer.upload(*image.blobs)
    size = sum(map(len, image.blobs)) + 2 * AROUND
    assert used(developer) == size, "what no manifest names yet"
    assert developer.push(image.manifest).status_code == 201
    size += len(image.manifest) + 2 * AROUND  # and the tag
    assert used(developer) == size
    developer.request("PATCH", begin(developer), b"x" * 500)
    size += 500 + AROUND
    assert used(developer) == size, "and what is being uploaded"
    other = operations.create_app(by=cast.developer, app_id=f"{developer.name}-2", title="Two")
    Developer(developer.issued, other).upload(*image.blobs)
    assert used(developer) == size, "a blob in two repositories counts once"
    operations.delete_app(by=cast.developer, app_id=developer.name)
    assert used(developer) == size, "and in a deleted App's too"
    assert quota.used(cast.outsider) == 0


def test_a_change_is_seen_at_once(developer: Developer) -> None:
    """The sum is kept while nothing changes; what comes within the same tick of the clock still counts."""
    for number in range(1, 20):
        developer.upload(secrets.token_bytes(10))
        assert used(developer) == number * (10 + AROUND)
        assert used(developer) == number * (10 + AROUND)


def test_what_tells_its_length_is_refused_before_it_is_sent(
    developer: Developer, set_limits: Callable[..., None]
) -> None:
    set_limits(max_registry=1000 * KIB)
    location = begin(developer)
    room_left = 1000 * KIB - AROUND
    answer = judge(developer, location, room_left + 1)
    assert answer.status_code == 401
    sentence = answer.json()["details"]
    assert "developer's Apps take 16 KiB, and this instance allows a developer 1000 KiB. " in sentence
    assert answer.json()["errors"][0] == {"code": "DENIED", "message": sentence}
    assert judge(developer, location, room_left).status_code == 204
    assert judge(developer, location, room_left).status_code == 204, "the same request again"
    sent = developer.request("PATCH", location, secrets.token_bytes(600 * KIB), expect=202)
    assert judge(developer, sent.headers["Location"], room_left - 600 * KIB + 1).status_code == 401
    assert judge(developer, sent.headers["Location"], 0, "PUT").status_code == 204, (
        "to complete it adds nothing"
    )


def test_no_further_upload_or_manifest_without_room(
    developer: Developer, set_limits: Callable[..., None]
) -> None:
    image = Image()
    developer.upload(*image.blobs)
    set_limits(max_registry=used(developer) + AROUND - 1)
    uploads = f"/v2/{developer.name}/blobs/uploads/"
    for uri in (uploads, f"{uploads}?mount={digest(image.config)}&from={developer.name}"):
        assert judge(developer, uri, 0, "POST").status_code == 401
    assert judge(developer, f"/v2/{developer.name}/manifests/v1", 0, "GET").status_code == 204
    set_limits(max_registry=used(developer) + len(image.manifest) - 1)
    answer = developer.push(image.manifest)
    assert answer.status_code == 401
    assert "quota is exceeded" in answer.json()["details"]
    assert not developer.app.releases.exists(), "nothing is known to be wrong with the image"
    set_limits(max_registry=0)
    assert developer.push(image.manifest).status_code == 201


def test_the_audit_names_the_manifest_that_was_refused(
    developer: Developer, set_limits: Callable[..., None]
) -> None:
    """A client's own X-Original-URI is none of nginx's."""
    set_limits(max_registry=1)
    path = f"/v2/{developer.name}/manifests/v1"
    answer = developer.ask("PUT", path, b"{}", media_type=OCI_MANIFEST, **{"X-Original-URI": "/v2/forged/"})
    assert answer.status_code == 401
    assert [entry.details["asked"] for entry in Entry.objects.filter(event=Entry.Event.REFUSED)] == [path]


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 40, "0x10", " 1"])
def test_a_length_that_is_none_is_held_for_unknown(
    developer: Developer, set_limits: Callable[..., None], length: str
) -> None:
    set_limits(max_registry=4096 * KIB)
    asked = {"X-Original-Method": "PATCH", "X-Original-URI": begin(developer), "X-Original-Length": length}
    answer = developer.ask("GET", "/registry/authorize", b"", **asked)
    assert (answer.status_code, answer["X-Portion"]) == (403, f"@portion_{1024 * KIB}")


def test_bodies_that_tell_no_length_share_what_is_left(
    developer: Developer, set_limits: Callable[..., None]
) -> None:
    set_limits(max_registry=4096 * KIB)
    answers = [judge(developer, begin(developer), None) for _ in range(5)]
    given = [answer.get("X-Portion", "").removeprefix("@portion_") for answer in answers]
    assert given == [str(1024 * KIB), str(1024 * KIB), str(512 * KIB), str(512 * KIB), str(256 * KIB)]
    assert used(developer) < 4096 * KIB
    assert all(answer["X-Registry-Authorization"] for answer in answers)


def test_what_was_promised_to_a_request_that_broke_off_comes_back(
    developer: Developer, set_limits: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(max_registry=4096 * KIB)
    location = begin(developer)
    assert judge(developer, location, None).status_code == 403
    before = used(developer)
    monkeypatch.setattr(quota, "PATIENCE", 0.0)
    (upload,) = disk.developers().repository(developer.name).uploads()
    time.sleep(0.05)
    (upload.path / "data").touch()
    with (upload.path / "data").open("ab"):  # it only sends slowly
        time.sleep(0.05)
        assert used(developer) == before
    assert used(developer) == AROUND


@pytest.mark.django_db(transaction=True)
def test_uploads_side_by_side_stay_below_the_limit(
    developer: Developer, set_limits: Callable[..., None]
) -> None:
    limit = 2000 * KIB
    set_limits(max_registry=limit)

    def push(_: int) -> int:
        content = secrets.token_bytes(300 * KIB)
        try:
            sent = developer.request("PATCH", begin(developer), content)
            uri = f"{sent.headers['Location']}&digest={digest(content)}"
            developer.request("PUT", uri, expect=201)
        except Refused:
            return 0
        finally:
            connection.close()
        return 1

    with ThreadPoolExecutor(8) as pool:
        taken = sum(pool.map(push, range(16)))
    # Uploads that were refused, and for a moment those that are just completed, count as well.
    assert 3 <= taken <= 6, "as many as there is room for"
    # Uploads that begin in the same moment do not see each other.
    assert used(developer) <= limit + 8 * AROUND


def test_uploads_of_others_cannot_be_named(developer: Developer, cast: Cast, set_limits: Any) -> None:
    """A key that is no upload makes no directory, and never a path out of the repository."""
    set_limits(max_registry=4096 * KIB)
    assert judge(developer, f"/v2/{developer.name}/blobs/uploads/nothing", 5).status_code == 204
    assert not disk.developers().repository(developer.name).upload("nothing").exists()
    for key in ("..", "../x", "%2e%2e", "a/b", "."):
        assert judge(developer, f"/v2/{developer.name}/blobs/uploads/{key}", 5).status_code == 401
    assert settings.DATA.exists()


GIB = 1024**3


def free() -> int:
    return free_disk.measure(settings.DATA, floor=0).free


def test_a_disk_below_its_floor_takes_no_push_and_frees_what_it_has(
    developer: Developer, set_limits: Callable[..., None]
) -> None:
    location, image = begin(developer), Image()
    developer.upload(*image.blobs)
    set_limits(min_free_disk=free() + 100 * GIB)
    uploads = f"/v2/{developer.name}/blobs/uploads/"
    for method, uri, length in (("POST", uploads, 0), ("PATCH", location, 1), ("PATCH", location, None)):
        answer = judge(developer, uri, length, method)
        assert answer.status_code == 401, uri
        assert "The instance's disk is nearly full: " in answer.json()["details"]
    assert developer.push(image.manifest).status_code == 401
    assert judge(developer, location, 0, "PUT").status_code == 204, "to complete it adds nothing"
    assert judge(developer, location, 0, "DELETE").status_code == 204
    set_limits(min_free_disk=0)
    assert developer.push(image.manifest).status_code == 201


def test_uploads_share_what_is_free_beyond_the_floor(
    developer: Developer, set_limits: Callable[..., None]
) -> None:
    """Other programs take disk too while this runs, so the amounts are far apart."""
    set_limits(max_registry=0, max_image=GIB, min_free_disk=max(free() - 12 * GIB, 1))
    first, second = begin(developer), begin(developer)
    assert judge(developer, first, 8 * GIB).status_code == 204
    assert judge(developer, second, 8 * GIB).status_code == 401, "8 of 12 GiB are promised"
    assert judge(developer, second, GIB).status_code == 204
    answer = judge(developer, begin(developer), None)
    assert answer.status_code == 403, "nginx sends it to the location of its portion"
    assert int(answer["X-Portion"].removeprefix("@portion_")) <= GIB


def broken(developer: Developer, uri: str, reason: str) -> Any:
    asked = {"X-Original-Method": "PATCH", "X-Original-URI": uri, "X-Reason": reason}
    return developer.ask("GET", "/registry/broken-off", b"", **asked)


BROKEN = {
    "portion": (413, "an upload of unknown length at most half of", 1),
    "short": (507, "The instance's disk is nearly full: ", 1),
    "failed": (503, "The instance is not available; ", 2),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_an_upload_that_was_broken_off_says_why_and_leaves_nothing_if_it_cannot_go_on(
    developer: Developer, set_limits: Callable[..., None], reason: str
) -> None:
    status, sentence, left = BROKEN[reason]
    location, other = begin(developer), begin(developer)
    for each in (location, other):
        developer.request("PATCH", each, secrets.token_bytes(100 * KIB), expect=202)
    set_limits(min_free_disk=free() + 100 * GIB if reason == "short" else 0)
    answer = broken(developer, location, reason)
    assert answer.status_code == status
    assert sentence in answer.json()["details"]
    sizes = [each.size for each in disk.developers().repository(developer.name).uploads()]
    assert sizes == [100 * KIB] * left


def test_nobody_ends_the_uploads_of_another(developer: Developer) -> None:
    location = begin(developer)
    uri = location.replace(f"/{developer.name}/", "/of-another/")
    assert broken(developer, uri, "portion").status_code == 401
    for wrong in (
        "/",
        f"/v2/{developer.name}/blobs/uploads/..",
        f"/v2/{developer.name}/blobs/uploads/../../x",
    ):
        assert broken(developer, wrong, "portion").status_code == 401
    assert len(list(disk.developers().repository(developer.name).uploads())) == 1


def test_idle_uploads_are_given_up_sooner_while_the_disk_is_short(
    developer: Developer, set_limits: Callable[..., None]
) -> None:
    developer.request("PATCH", begin(developer), b"x" * 100, expect=202)
    (upload,) = disk.developers().repository(developer.name).uploads()
    for path in (upload.path, *upload.path.rglob("*")):
        os.utime(path, (time.time() - 120,) * 2)
    set_limits(min_free_disk=0)
    sweeping.sweep_uploads()
    assert upload.path.exists()
    set_limits(min_free_disk=free() + 100 * GIB)
    sweeping.sweep_uploads()
    assert not upload.path.exists()
