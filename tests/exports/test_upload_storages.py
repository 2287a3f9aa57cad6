"""What uploads leave in the storage: in a directory, and in S3 with a real server."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from gridapps.access.models import User
from gridapps.audit.models import Entry
from gridapps.exports import incoming, naming, operations, queries, receiving, stored_files, upload_checks
from gridapps.exports.models import Export, ExportFile, ExportUpload
from gridapps.housekeeping import lost_exports
from gridapps.runs import export_deletion
from gridapps.storage.choice import current
from gridapps.storage.interface import StorageUnavailable
from tests.exports.conftest import MakeCloud
from tests.exports.sending import Begin, check_everything, ended, send
from tests.fixtures.s3 import BUCKET, CREDENTIALS, S3Server

NONE = timedelta(0)


@pytest.fixture(autouse=True, params=["directory", "s3"])
def storage(
    request: pytest.FixtureRequest, data: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> S3Server | None:
    """Where exports are: the server of S3, or None for the directory."""
    settings.STORAGE = ""
    if request.param == "directory":
        return None
    server: S3Server = request.getfixturevalue("s3")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    settings.STORAGE = f"s3://{BUCKET}/p"
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"s3_endpoint": server.endpoint})
    return server


def stored() -> list[str]:
    """What is stored of exports."""
    root = stored_files.root()
    if root is None:
        return sorted(entry.key.removeprefix("exports/") for entry in current().entries("exports/"))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def content_of(file: ExportFile) -> bytes:
    """The content that a run gets."""
    place = stored_files.provide(file, by="test", check=lambda: None)
    try:
        return place.read_bytes()
    finally:
        stored_files.release("test")


def uploaded(begin: Begin, content: bytes) -> Export:
    upload = begin(len(content))
    send(upload, content)
    export = ended(upload).export
    assert export is not None
    return export


def test_files_that_arrive_in_parts_become_an_export(
    owner: User, begin: Begin, make_cloud: MakeCloud
) -> None:
    contents = [make_cloud(points=2000).read_bytes(), make_cloud("b.las", points=10).read_bytes()]
    upload = begin(*map(len, contents), f0=hashlib.sha256(contents[0]).hexdigest())
    middle = len(contents[0]) // 2
    assert send(upload, contents[0][:middle]) == middle
    assert send(upload, contents[1], index=1) == len(contents[1])
    upload.refresh_from_db()
    assert upload.state == "receiving"
    assert send(upload, contents[0][middle:], offset=middle) == len(contents[0])
    upload = ended(upload)
    assert (upload.state, upload.reason) == ("ready", "")
    export = queries.visible_to(owner).get()
    assert (export.pk, export.name, export.uploaded) == (upload.export_id, "city", True)
    files = list(export.files.order_by("pk"))
    assert [(file.name, file.points) for file in files] == [("0.laz", 2000), ("1.laz", 10)]
    assert list(map(content_of, files)) == contents
    assert list(incoming.directory().iterdir()) == []
    assert Entry.objects.get(event="export.imported").actor == f"user:{owner.pk}"


def test_files_are_stored_so_that_the_application_cannot_change_them(
    begin: Begin, make_cloud: MakeCloud, storage: S3Server | None
) -> None:
    content = make_cloud(points=10).read_bytes()
    export = uploaded(begin, content)
    if storage is not None:
        assert stored() == [hashlib.sha256(content).hexdigest()]
        return
    status = stored_files.verified(export.files.get()).stat()
    assert status.st_mode & 0o777 == 0o444
    assert status.st_nlink == 1, "the application could write to a link"


def test_invalid_files_are_refused_with_a_reason(
    begin: Begin, make_cloud: MakeCloud, storage: S3Server | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_cloud(points=10).read_bytes()
    upload = begin(len(good), 100)
    send(upload, good)
    send(upload, b"x" * 100, index=1)
    upload = ended(upload)
    assert upload.state == "refused"
    assert upload.reason.startswith("1.laz: This is not a LAS or LAZ file")
    assert [file.reason[:8] for file in upload.files.all()] == ["", "This is "]
    assert not Export.objects.exists()
    assert list(incoming.directory().iterdir()) == []
    if storage is not None:  # imports may rely on an object, so it goes later
        assert lost_exports.tidy() == []
        monkeypatch.setattr(lost_exports, "GRACE_OF_OBJECTS", NONE)
        lost_exports.tidy()
    assert stored() == []


def test_bad_files_are_left_out_on_request(
    begin: Begin, make_cloud: MakeCloud, storage: S3Server | None
) -> None:
    good = make_cloud(points=10).read_bytes()
    upload = begin(100, len(good), skip_bad=True)
    send(upload, b"x" * 100)
    send(upload, good, index=1)
    upload = ended(upload)
    assert upload.state == "ready"
    assert [file.name for file in Export.objects.get().files.all()] == ["1.laz"]
    assert stored() == [f"{upload.pk.hex}/1.laz" if storage is None else hashlib.sha256(good).hexdigest()]
    nothing = begin(100, skip_bad=True)
    send(nothing, b"x" * 100)
    assert ended(nothing).state == "refused"


def test_another_content_than_announced_is_refused(begin: Begin, make_cloud: MakeCloud) -> None:
    content = make_cloud(points=10).read_bytes()
    upload = begin(len(content), f0="0" * 64)
    send(upload, content)
    assert "another content than was announced" in ended(upload).reason


def test_a_content_that_is_there_is_stored_once_in_s3(
    owner: User, begin: Begin, make_cloud: MakeCloud, storage: S3Server | None
) -> None:
    cloud = make_cloud(points=10)
    imported = operations.import_export(owner=owner, name="imported", files=[cloud])
    before = storage.asked()["put object"] if storage is not None else 0
    export = uploaded(begin, cloud.read_bytes())
    assert len(stored()) == (2 if storage is None else 1)
    assert storage is None or storage.asked()["put object"] == before
    assert content_of(export.files.get()) == content_of(imported.files.get())


def test_a_renamed_export_keeps_its_files(owner: User, begin: Begin, make_cloud: MakeCloud) -> None:
    content = make_cloud(points=10).read_bytes()
    export = uploaded(begin, content)
    before = stored()
    assert naming.rename(by=owner, export=export, name="river").name == "river"
    assert stored() == before
    assert content_of(export.files.get()) == content


def test_the_files_of_a_deleted_export_go_unless_another_export_has_them(
    owner: User,
    begin: Begin,
    make_cloud: MakeCloud,
    storage: S3Server | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = make_cloud(points=10).read_bytes()
    first, second = uploaded(begin, content), uploaded(begin, content)
    export_deletion.delete_export(by=owner, export=first)
    monkeypatch.setattr(lost_exports, "GRACE_OF_OBJECTS", NONE)
    for tidy in (lost_exports.tidy_deleted, lost_exports.tidy):
        tidy()
    assert content_of(second.files.get()) == content
    assert len(stored()) == 1
    export_deletion.delete_export(by=owner, export=second)
    for tidy in (lost_exports.tidy_deleted, lost_exports.tidy):
        tidy()
    assert stored() == []


def test_an_abandoned_upload_stores_nothing(owner: User, begin: Begin, make_cloud: MakeCloud) -> None:
    content = make_cloud(points=10).read_bytes()
    upload = begin(len(content))
    send(upload, content[:100])
    receiving.abandon(by=owner, upload=upload)
    check_everything()
    assert stored() == []


def test_an_upload_of_months_is_removed_and_its_export_stays(begin: Begin, make_cloud: MakeCloud) -> None:
    content = make_cloud(points=10).read_bytes()
    export = uploaded(begin, content)
    ExportUpload.objects.update(ended_at=timezone.now() - 2 * upload_checks.KEPT)
    upload_checks.expire()
    assert content_of(export.files.get()) == content


def test_a_storage_that_is_away_is_waited_for(
    begin: Begin, make_cloud: MakeCloud, storage: S3Server | None, data: Path
) -> None:
    content = make_cloud(points=10).read_bytes()
    upload = begin(len(content))
    send(upload, content)
    if storage is not None:
        storage.stop()
    else:
        (data / "exports").rename(data / "elsewhere")
    for _ in range(upload_checks.TRIES + 1):
        with pytest.raises((StorageUnavailable, OSError)):
            check_everything()
    upload.refresh_from_db()
    assert upload.state == "checking"
    if storage is not None:
        storage.start()
    else:
        (data / "elsewhere").rename(data / "exports")
    assert ended(upload).state == "ready"
    assert content_of(Export.objects.get().files.get()) == content
