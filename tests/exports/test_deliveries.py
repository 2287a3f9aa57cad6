"""Imports of many files: bad ones are left out, nothing is read twice, links, and files that were moved."""

import os
import shutil
import struct
from pathlib import Path

import pytest

from gridapps.exports import facts, intake, operations, stored_files
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.facts import Facts
from gridapps.exports.models import Export, Measurement
from gridapps.exports.reader_process import Reader


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The points of the files that were read, in any order."""
    found: list[int] = []

    really = facts.measure

    def measure(path: Path, reader: Reader | None = None) -> Facts:
        answer = really(path, reader)
        found.append(answer.points)
        return answer

    monkeypatch.setattr(facts, "measure", measure)
    return found


@pytest.fixture
def delivery(make_cloud, tmp_path) -> list[Path]:
    """Two good files, an empty one, a page, and a file with a bad name."""
    good = [make_cloud("1.laz", points=11), make_cloud("2.las", points=12)]
    (tmp_path / "empty.laz").touch()
    (tmp_path / "page.laz").write_text("<html>")
    (tmp_path / "notes.txt").touch()
    return [good[0], tmp_path / "empty.laz", good[1], tmp_path / "page.laz", tmp_path / "notes.txt"]


def test_bad_files_are_left_out_and_named(owner, delivery):
    left_out: list[str] = []
    done: list[int] = []
    export = operations.import_export(
        owner=owner, name="city", files=delivery, left_out=left_out, advance=done.append
    )
    files = list(export.files.all())
    assert [(file.name, file.points) for file in files] == [("1.laz", 11), ("2.las", 12)]
    assert sorted(line.partition(":")[0] for line in left_out) == ["empty.laz", "notes.txt", "page.laz"]
    assert all(line.endswith(".") for line in left_out)
    assert sum(done) == 5
    for file in files:
        assert stored_files.verified(file).stat().st_size == file.size
    assert len(list(stored_files.path(files[0]).parent.iterdir())) == 2


def test_a_sparse_file_with_a_false_header_is_refused_before_it_is_hashed(owner, make_cloud, monkeypatch):
    """Hashing the hole would take minutes."""
    path = make_cloud("cloud.las")
    with path.open("r+b") as file:
        file.seek(235)
        file.write(struct.pack("<QI", path.stat().st_size, 0xB0000000))
        file.truncate(200 * 1024**3)
    hashed: list[Path] = []
    monkeypatch.setattr(intake, "_hash", hashed.append)
    with pytest.raises(BadPointCloud, match="at most 10000 are read"):
        operations.import_export(owner=owner, name="city", files=[path])
    assert hashed == []


def test_an_export_of_bad_files_alone_is_refused(owner, delivery):
    with pytest.raises(BadPointCloud) as caught:
        operations.import_export(owner=owner, name="city", files=delivery[3:], left_out=[])
    assert len(str(caught.value).splitlines()) == 2
    assert not Export.objects.exists()


def test_measurements_of_a_refused_import_are_reused(owner, delivery, read):
    with pytest.raises(BadPointCloud):
        operations.import_export(owner=owner, name="city", files=delivery[:3])
    assert sorted(read) == [11, 12]
    read.clear()
    first = operations.import_export(owner=owner, name="city", files=delivery, left_out=[])
    assert read == []
    second = operations.import_export(owner=owner, name="again", files=[delivery[0]])
    assert read == []
    names = ("points", "bounds", "remarks", "crs_code")
    one, other = (export.files.order_by("pk").values(*names)[0] for export in (first, second))
    assert one == other


def test_an_interrupted_import_goes_on_behind_its_last_batch(owner, make_cloud, read, monkeypatch):
    monkeypatch.setattr(intake, "_BATCH_FILES", 2)
    files = [make_cloud(f"{points}.laz", points=points) for points in range(10, 16)]

    def interrupt(done: int) -> None:
        if len(read) >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        operations.import_export(owner=owner, name="city", files=files, advance=interrupt)
    assert sorted(read) == [10, 11, 12, 13]
    root = stored_files.root()
    assert root is not None
    assert list(root.iterdir()) == []
    operations.import_export(owner=owner, name="city", files=files)
    assert sorted(read) == [10, 11, 12, 13, 14, 15]


def test_facts_of_an_older_version_or_week_are_not_used(owner, make_cloud, read, monkeypatch):
    path = make_cloud(points=10)
    operations.import_export(owner=owner, name="city", files=[path])
    monkeypatch.setattr(facts, "VERSION", facts.VERSION + 1)
    operations.import_export(owner=owner, name="city", files=[path])
    assert read == [10, 10]
    row = Measurement.objects.get()
    assert row.version == facts.VERSION
    Measurement.objects.update(measured_at=row.measured_at - intake._KEPT)
    operations.import_export(owner=owner, name="city", files=[path])
    assert read == [10, 10, 10]


def test_a_file_that_changes_while_it_is_measured_is_refused(owner, make_cloud, monkeypatch):
    path = make_cloud("cloud.las", points=10)

    really = facts.measure

    def measure(there: Path, reader: Reader | None = None) -> Facts:
        found = really(there, reader)
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
        return found

    monkeypatch.setattr(facts, "measure", measure)
    with pytest.raises(BadPointCloud, match="was changed while it was imported"):
        operations.import_export(owner=owner, name="city", files=[path])
    assert not Measurement.objects.exists()


def test_a_link_is_followed_only_on_demand(owner, make_cloud, tmp_path):
    link = tmp_path / "link.laz"
    link.symlink_to(make_cloud(points=10))
    with pytest.raises(BadPointCloud, match=r"^link\.laz: This is a symbolic link.*--follow"):
        operations.import_export(owner=owner, name="city", files=[link])
    (file,) = operations.import_export(owner=owner, name="city", files=[link], follow=True).files.all()
    assert (file.name, file.points) == ("link.laz", 10)
    assert stored_files.path(file).samefile(tmp_path / "cloud.laz")
    loop = tmp_path / "loop.laz"
    loop.symlink_to(loop)
    with pytest.raises(BadPointCloud, match=r"^loop\.laz: This is a symbolic link"):
        operations.import_export(owner=owner, name="city", files=[loop], follow=True)
    broken = tmp_path / "broken.laz"
    broken.symlink_to("nothing")
    with pytest.raises(BadPointCloud, match=r"^broken\.laz: The file cannot be opened: No such file"):
        operations.import_export(owner=owner, name="city", files=[broken], follow=True)


@pytest.mark.parametrize("how", ["touch", "copy", "whole seconds"])
def test_a_file_with_another_time_and_the_same_content_goes_on(owner, make_cloud, how):
    (file,) = operations.import_export(owner=owner, name="city", files=[make_cloud()]).files.all()
    stored = stored_files.path(file)
    if how == "copy":
        shutil.copyfile(stored, stored.with_name("copy"))
        stored.unlink()
        stored.with_name("copy").rename(stored)
    elif how == "touch":
        os.utime(stored, ns=(1, 12345))
    else:
        second = stored.stat().st_mtime_ns // 10**9 * 10**9
        os.utime(stored, ns=(second, second))
    calls: list[None] = []
    assert stored_files.verified(file, check=lambda: calls.append(None)) == stored
    file.refresh_from_db()
    assert file.linked_mtime_ns == stored.stat().st_mtime_ns
    hashed = len(calls)
    assert stored_files.verified(file, check=lambda: calls.append(None)) == stored
    assert len(calls) == hashed, "the new time is remembered"


def test_a_file_with_another_time_and_content_is_changed_every_time(owner, make_cloud):
    (file,) = operations.import_export(owner=owner, name="city", files=[make_cloud()]).files.all()
    stored = stored_files.path(file)
    with stored.open("r+b") as content:
        content.seek(-1, os.SEEK_END)
        content.write(b"x")
    before = file.linked_mtime_ns
    for _ in range(2):
        with pytest.raises(stored_files.ExportFileChanged, match="was changed after it was imported"):
            stored_files.verified(file)
    file.refresh_from_db()
    assert file.linked_mtime_ns == before


def test_hashing_a_file_can_be_ended(owner, make_cloud):
    (file,) = operations.import_export(owner=owner, name="city", files=[make_cloud()]).files.all()
    os.utime(stored_files.path(file), ns=(1, 12345))

    def cancel() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        stored_files.verified(file, check=cancel)
