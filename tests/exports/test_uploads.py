"""Uploads: parts, quota, the check, and what becomes of the files."""

import hashlib
import os
import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from gridapps.access.models import User
from gridapps.audit.models import Entry
from gridapps.exports import incoming, receiving, stored_files, upload_checks, upload_quota
from gridapps.exports.errors import (
    ChecksumMismatch,
    InvalidExport,
    NoDiskSpace,
    UploadConflict,
    UploadNotFound,
    UploadQuotaExceeded,
    UploadTooLarge,
)
from gridapps.exports.models import Export, ExportUpload, UploadFile
from gridapps.exports.receiving import Announced
from gridapps.exports.upload_states import MAX_PART
from gridapps.housekeeping import lost_exports
from tests.exports.conftest import MakeCloud
from tests.exports.sending import Begin, check_everything, ended, send


def test_a_part_begins_where_the_last_one_ended(begin: Begin) -> None:
    upload = begin(10)
    send(upload, b"abcd")
    for offset in (0, 3, 5, 10):
        with pytest.raises(UploadConflict, match="4 bytes of this file have arrived"):
            send(upload, b"ef", offset=offset)
    with pytest.raises(UploadTooLarge, match="announced with 10 bytes"):
        send(upload, b"x" * 7, offset=4)
    with pytest.raises(UploadTooLarge, match="at most 8388608 bytes"):
        send(upload, b"x" * (MAX_PART + 1), offset=4)
    assert send(upload, b"", offset=4) == 4


def test_a_part_with_another_checksum_is_not_kept(begin: Begin) -> None:
    upload = begin(10)
    with pytest.raises(ChecksumMismatch):
        send(upload, b"abcd", checksum=("sha1", hashlib.sha1(b"abce", usedforsecurity=False).digest()))
    assert incoming.arrived(upload.files.get()) == 0
    assert send(upload, b"abcd", checksum=("sha256", hashlib.sha256(b"abcd").digest())) == 4


def test_one_request_at_a_time_writes_a_file(begin: Begin) -> None:
    upload = begin(10)
    with (
        incoming.writing(upload.files.get()),
        pytest.raises(UploadConflict, match="Another request is sending this file"),
    ):
        send(upload, b"a")
    assert send(upload, b"a") == 1


def test_data_received_by_a_killed_process_counts(begin: Begin) -> None:
    upload = begin(4)
    incoming.path_of(upload.files.get()).write_bytes(b"abcd")
    with pytest.raises(UploadConflict, match="4 bytes"):
        send(upload, b"abcd")
    upload_checks.expire()
    upload.refresh_from_db()
    assert upload.state == "checking"


def test_a_part_that_does_not_fit_on_the_disk_leaves_nothing(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begin(10)
    send(upload, b"ab")
    write = os.pwrite

    def full(descriptor: int, content: Any, offset: int) -> int:
        if offset > 3:
            raise OSError(28, "No space left on device")
        return int(write(descriptor, content[:2], offset))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoDiskSpace, match="disk is full"):
        send(upload, b"cdef", offset=2)
    assert incoming.path_of(upload.files.get()).read_bytes() == b"ab"


def test_no_upload_begins_that_the_disk_cannot_hold(begin: Begin, settings: Any) -> None:
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"max_uploads": 0})
    free = shutil.disk_usage(incoming.directory()).free
    with pytest.raises(NoDiskSpace, match="no space for this upload"):
        begin(free)
    assert not ExportUpload.objects.exists()


def test_continued_upload_respects_the_floor_of_free_disk(begin: Begin, settings: Any) -> None:
    upload = begin(10)
    send(upload, b"ab")
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"min_free_disk": 2**60})
    with pytest.raises(NoDiskSpace, match="no space for this upload"):
        send(upload, b"cdef", offset=2)
    assert incoming.path_of(upload.files.get()).read_bytes() == b"ab"


def test_the_quota_counts_what_is_kept_and_what_is_announced(
    owner: User, begin: Begin, make_cloud: MakeCloud, settings: Any
) -> None:
    content = make_cloud(points=10).read_bytes()
    limit = 3 * len(content)
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"max_uploads": limit})
    first = begin(len(content))
    send(first, content)
    begin(len(content))
    assert upload_quota.used(owner) == 2 * len(content)
    with pytest.raises(
        UploadQuotaExceeded, match=r"This upload has .* are left: your uploaded exports take 0 bytes"
    ):
        begin(len(content) + 1)
    begin(len(content), by=User.objects.create(username="other"))
    assert ended(first).state == "ready"
    assert upload_quota.used(owner) == 2 * len(content), "an upload that has ended does not count again"
    receiving.abandon(by=owner, upload=ExportUpload.objects.get(owner=owner, state="receiving"))
    Export.objects.update(deleted_at=timezone.now())
    assert upload_quota.used(owner) == 0
    begin(limit)


def test_limit_of_concurrent_uploads(owner: User, begin: Begin) -> None:
    for _ in range(receiving.MAX_OPEN):
        begin(1)
    with pytest.raises(UploadConflict, match="10 uploads that have not ended"):
        begin(1)


def test_number_of_listed_ended_uploads_is_limited(owner: User, begin: Begin) -> None:
    now = timezone.now()
    ExportUpload.objects.bulk_create(
        ExportUpload(
            owner=owner, name=str(number), skip_bad=False, state="refused", reason="x", active_at=now,
            ended_at=now - timedelta(hours=number),
        )
        for number in range(receiving.MAX_ENDED + 5)
    )  # fmt: skip
    begin(1)
    kept = ExportUpload.objects.exclude(ended_at=None).values_list("name", flat=True)
    assert sorted(map(int, kept)) == list(range(receiving.MAX_ENDED - 1))
    ExportUpload.objects.filter(name="3").update(ended_at=now - upload_checks.KEPT)
    upload_checks.expire()
    assert not ExportUpload.objects.filter(name="3").exists()


@pytest.mark.parametrize(
    "name",
    ["../a.laz", "a/../../b.laz", "/etc/passwd", ".laz", "-x.laz", "a\\b.laz", "a\n.laz", "a.zip", "x" * 256],
)
def test_names_are_those_of_an_import(owner: User, begin: Begin, name: str) -> None:
    files = [Announced(name="a.laz", size=1), Announced(name=name, size=1)]
    with pytest.raises(InvalidExport) as caught:
        receiving.begin(by=owner, name="city", files=files, skip_bad=False)
    assert [pointer for pointer, _ in caught.value.fields] == ["/files/1"]
    assert not ExportUpload.objects.exists()


def test_a_check_that_never_ends_is_given_up(begin: Begin, make_cloud: MakeCloud) -> None:
    content = make_cloud(points=10).read_bytes()
    upload = begin(len(content))
    send(upload, content)
    UploadFile.objects.update(tries=upload_checks.TRIES)
    assert "did not end" in ended(upload).reason


def test_a_check_is_repeated_after_an_error_of_the_disk(
    begin: Begin, make_cloud: MakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_cloud(points=10).read_bytes()
    upload = begin(len(content))
    send(upload, content)
    with monkeypatch.context() as patched:
        patched.setattr(upload_checks, "make_directories", _failing)
        for _ in range(upload_checks.TRIES + 1):
            with pytest.raises(OSError, match="No space"):
                check_everything()
    assert ended(upload).state == "ready"


def _failing(*_: Any) -> Path:
    raise OSError(28, "No space left on device")


def test_a_check_that_was_killed_begins_again(begin: Begin, make_cloud: MakeCloud) -> None:
    content = make_cloud(points=10).read_bytes()
    upload = begin(len(content))
    send(upload, content)
    half = stored_files.root() / upload.pk.hex  # type: ignore[operator]
    half.mkdir()
    (half / "0.laz").write_bytes(content[:5])
    assert lost_exports.find() == []
    assert ended(upload).state == "ready"
    assert stored_files.verified(Export.objects.get().files.get()).read_bytes() == content


def test_the_files_of_one_user_are_checked_one_after_the_other(owner: User, begin: Begin) -> None:
    other = User.objects.create(username="other")
    for upload in (begin(1, 1), begin(1, by=other)):
        for file in upload.files.all():
            send(upload, b"x", index=file.index)
    first = upload_checks.next_file(but=set())
    assert first is not None
    assert (first.upload.owner, first.index) == (owner, 0)
    second = upload_checks.next_file(but={owner.pk})
    assert second is not None
    assert second.upload.owner == other
    assert upload_checks.next_file(but={owner.pk, other.pk}) is None


def test_an_upload_expires(begin: Begin) -> None:
    upload, other = begin(10), begin(10)
    for each in (upload, other):
        send(each, b"abc")
    ExportUpload.objects.filter(pk=upload.pk).update(active_at=timezone.now() - receiving.EXPIRES)
    upload_checks.expire()
    upload.refresh_from_db()
    assert (upload.state, upload.reason[:26]) == ("refused", "Nothing arrived for a day,")
    assert [path.name for path in incoming.directory().iterdir()] == [f"{other.pk.hex}.0"]
    with pytest.raises(UploadConflict, match="it is refused"):
        send(upload, b"d", offset=3)


def test_data_postpones_the_end(begin: Begin) -> None:
    upload = begin(10)
    ExportUpload.objects.update(active_at=timezone.now() - timedelta(hours=23))
    send(upload, b"a")
    upload_checks.expire()
    upload.refresh_from_db()
    assert upload.state == "receiving"
    assert timezone.now() - upload.active_at < timedelta(minutes=5)


def test_leftovers_of_uploads_are_removed(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = begin(10)
    send(kept, b"a")
    (incoming.directory() / ("0" * 32 + ".0")).write_bytes(b"x")
    (incoming.directory() / "junk").write_bytes(b"x")
    (incoming.directory() / "directory").mkdir()
    upload_checks.expire()
    assert len(list(incoming.directory().iterdir())) == 4, "a writer may be about to end"
    monkeypatch.setattr(incoming, "_STRAY", -1.0)
    upload_checks.expire()
    assert {path.name for path in incoming.directory().iterdir()} == {f"{kept.pk.hex}.0", "directory"}


def test_what_the_application_may_put_there_is_not_followed_linked_or_waited_for(
    begin: Begin, make_cloud: MakeCloud, data: Path
) -> None:
    """A compromised application owns the directory. It must not be able to change an export after its check,
    read what only the importer can, or hold up other uploads."""
    content = make_cloud(points=10).read_bytes()
    secret = data / "secret.laz"
    secret.write_bytes(content)
    directory = data.stat().st_size  # of an empty one
    sizes = {
        "writable by everybody": len(content), "link": len(str(secret)), "directory": directory, "pipe": 1,
    }  # fmt: skip
    uploads = {what: begin(size) for what, size in sizes.items()}
    places = {what: incoming.path_of(upload.files.get()) for what, upload in uploads.items()}
    places["writable by everybody"].write_bytes(content)
    places["writable by everybody"].chmod(0o666)
    places["link"].symlink_to(secret)
    places["directory"].mkdir()
    os.mkfifo(places["pipe"])
    ExportUpload.objects.update(state="checking")
    UploadFile.objects.update(received=True)
    reasons = {what: ended(upload).reason for what, upload in uploads.items()}
    assert reasons.pop("writable by everybody") == ""
    (kept,) = Export.objects.get().files.all()
    assert stored_files.path(kept).stat().st_nlink == 1
    assert kept.linked_mtime_ns is None
    assert all(reasons.values()), reasons
    assert "symbolic link" in reasons["link"]
    assert [each.name for each in (data / "exports").rglob("*") if each.is_file()] == ["0.laz"]


def test_an_upload_is_deleted_by_its_owner(owner: User, begin: Begin) -> None:
    upload = begin(10)
    send(upload, b"abc")
    other = User.objects.create(username="other")
    with pytest.raises(UploadNotFound):
        receiving.file_of(by=other, upload=upload.pk, index=0)
    receiving.abandon(by=other, upload=upload)
    assert ExportUpload.objects.exists()
    receiving.abandon(by=owner, upload=upload)
    assert not ExportUpload.objects.exists()
    assert list(incoming.directory().iterdir()) == []
    receiving.abandon(by=owner, upload=upload)
    assert Entry.objects.filter(event="upload.abandoned").count() == 1


@pytest.mark.parametrize(
    ("constraint", "change"),
    [
        ("upload_ended_exactly_when_terminal", {"state": "refused", "reason": "x"}),
        ("upload_ready_exactly_with_export", {"state": "ready", "ended_at": timezone.now()}),
        ("upload_refused_has_reason", {"state": "refused", "ended_at": timezone.now()}),
    ],
)
def test_constraints_of_uploads(begin: Begin, constraint: str, change: dict[str, Any]) -> None:
    upload = begin(1)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        ExportUpload.objects.filter(pk=upload.pk).update(**change)


@pytest.mark.parametrize(
    ("constraint", "columns", "change"),
    [
        ("uploadfile_index_once_per_upload", r"upload_id, exports_uploadfile\.index", {"index": 0}),
        ("uploadfile_name_once_per_upload", r"upload_id, exports_uploadfile\.name", {"name": "0.laz"}),
        ("uploadfile_has_bytes", "uploadfile_has_bytes", {"size": 0}),
    ],
)
def test_constraints_of_files(begin: Begin, constraint: str, columns: str, change: dict[str, Any]) -> None:
    second = begin(1, 1).files.get(index=1)
    with pytest.raises(IntegrityError, match=f"{constraint}|{columns}"), transaction.atomic():
        UploadFile.objects.filter(pk=second.pk).update(**change)


def test_sizes_are_readable() -> None:
    assert [upload_quota.sized(size) for size in (0, 1023, 1024, 5 * 2**30, 2**43)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "5.0 GiB", "8.0 TiB",
    ]  # fmt: skip


def test_lock_excludes_other_threads(begin: Begin) -> None:
    """Locks on a file belong to an opened file, so they also hold between threads of a process."""
    file = begin(10).files.get()
    outcome: list[str] = []

    def enter() -> None:
        try:
            with incoming.writing(file):
                outcome.append("entered")
        except UploadConflict:
            outcome.append("refused")

    with incoming.writing(file):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert outcome == ["refused"]
