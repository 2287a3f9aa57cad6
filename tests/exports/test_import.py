"""Importing exports: valid files are imported, invalid ones are named, and no export is imported in part."""

import hashlib
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import laspy
import pytest
import shapely

from gridapps.access.models import User
from gridapps.exports import operations, queries, stored_files
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.models import Export
from gridapps.storage import free_disk
from gridapps.storage.free_disk import DiskNearlyFull
from tests.exports.conftest import SHARED

MEASURE = """
import json, pathlib, re, resource, sys
from gridapps.exports import facts
from gridapps.exports.errors import BadPointCloud
try:
    facts.measure(pathlib.Path(sys.argv[1])); said = ""
except BadPointCloud as error:
    said = str(error)
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
seconds = sum(one.ru_utime + one.ru_stime for one in used)
# ru_maxrss of a process includes the memory of the process that it was forked from: here, pytest.
own = re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
rss = max(int(own[1]), used[1].ru_maxrss)
print(json.dumps({"said": said, "rss": rss * 1024, "seconds": seconds}))
"""

BAD = {
    "bitrot_middle.laz": "cannot be read to its end",
    "empty.laz": "is empty",
    "garbage_nVariableLength.las": "variable-length records",
    "html_not_laz.laz": "not a LAS or LAZ file",
    "no-points.las": "no points",
    "scale_zero.las": "scale factor of x",
    "trunc.las": "cut off",
    "trunc_half.laz": "cut off",
    "trunc_header.laz": "cut off inside its header",
}
GOOD = {
    "single/autzen_trim.laz": (110_000, "1.2", 3),
    "single/ellipsoid.copc.laz": (100_000, "1.4", 7),
    "single/las_with_several_extra_byte_bloc.laz": (697_721, "1.4", 8),
    "single/lone-star.copc.laz": (518_862, "1.4", 6),
    "single/simple.las": (1065, "1.2", 3),
    "single/test1_4.las": (1000, "1.4", 6),
    "tiles/split-1.laz": (122_893, "1.1", 1),
    "tiles/split-2.laz": (154_561, "1.1", 1),
    "tiles/split-3.laz": (132_693, "1.1", 1),
    "tiles/split-4.laz": (108_715, "1.1", 1),
}


def files_in_storage() -> list[Path]:
    root = stored_files.root()
    assert root is not None
    return [path for path in root.rglob("*") if path.is_file()]


def refused(owner: User, *files: Path, name: str = "city") -> str:
    """Import invalid files; return the message after checking that nothing was kept."""
    with pytest.raises(BadPointCloud) as caught:
        operations.import_export(owner=owner, name=name, files=list(files))
    assert not Export.objects.exists()
    assert files_in_storage() == []
    return str(caught.value)


def test_a_file_becomes_an_export_with_its_facts(owner, make_cloud):
    path = make_cloud(points=5000)
    export = operations.import_export(owner=owner, name=" City ", files=[path])
    (file,) = export.files.all()
    cloud = laspy.read(path)
    assert (export.name, export.owner) == ("City", owner)
    assert (file.name, file.points, file.las_version, file.point_format) == ("cloud.laz", 5000, "1.4", 6)
    assert file.bounds == pytest.approx([*cloud.xyz.min(axis=0), *cloud.xyz.max(axis=0)])
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.size == path.stat().st_size
    expected = shapely.convex_hull(shapely.multipoints(cloud.xyz[:, :2]))
    assert shapely.from_wkb(bytes(file.footprint)).symmetric_difference(expected).area < 1e-6


def test_an_import_takes_no_second_copy(owner, make_cloud):
    path = make_cloud()
    (file,) = operations.import_export(owner=owner, name="city", files=[path]).files.all()
    assert stored_files.path(file).samefile(path)
    assert stored_files.verified(file) == stored_files.path(file)


def test_a_file_that_the_sandbox_could_not_read_is_copied(owner, make_cloud):
    path = make_cloud()
    path.chmod(0o600)
    (file,) = operations.import_export(owner=owner, name="city", files=[path]).files.all()
    assert not stored_files.path(file).samefile(path)
    assert stored_files.path(file).stat().st_mode & 0o777 == 0o444
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"changed")
    assert stored_files.verified(file).stat().st_size == file.size


def test_a_linked_file_that_its_owner_changes_is_found(owner, make_cloud):
    path = make_cloud()
    (file,) = operations.import_export(owner=owner, name="city", files=[path]).files.all()
    with path.open("r+b") as content:
        content.seek(-1, os.SEEK_END)
        content.write(b"x")
    with pytest.raises(stored_files.ExportFileChanged, match=r"cloud\.laz was changed after it was imported"):
        stored_files.verified(file)


def test_a_stored_file_that_is_gone_or_replaced_is_found(owner, make_cloud):
    (file,) = operations.import_export(owner=owner, name="city", files=[make_cloud()]).files.all()
    stored_files.path(file).unlink()
    with pytest.raises(stored_files.ExportFileChanged, match="cannot be reached"):
        stored_files.verified(file)
    stored_files.path(file).symlink_to("/etc/passwd")
    with pytest.raises(stored_files.ExportFileChanged, match="was changed"):
        stored_files.verified(file)


def test_several_files_keep_their_order(owner, make_cloud):
    paths = [make_cloud(f"{name}.laz", points=100 + index) for index, name in enumerate("cab")]
    export = operations.import_export(owner=owner, name="city", files=paths)
    assert [(file.name, file.points) for file in export.files.all()] == [
        ("c.laz", 100), ("a.laz", 101), ("b.laz", 102),
    ]  # fmt: skip


def test_one_bad_file_and_nothing_is_taken(owner, make_cloud, tmp_path):
    bad, worse = tmp_path / "bad.laz", tmp_path / "worse.laz"
    bad.write_bytes(b"")
    worse.write_bytes(b"<html>")
    lines = refused(owner, make_cloud(), bad, worse).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["bad.laz", "worse.laz"]


def test_what_is_no_file_has_a_sentence(owner, tmp_path, make_cloud):
    (tmp_path / "folder.laz").mkdir()
    os.mkfifo(tmp_path / "pipe.laz")
    (tmp_path / "link.laz").symlink_to(make_cloud())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.laz"))
    assert "directory" in refused(owner, tmp_path / "folder.laz")
    assert "pipe" in refused(owner, tmp_path / "pipe.laz")
    assert "symbolic link" in refused(owner, tmp_path / "link.laz")
    assert "socket" in refused(owner, tmp_path / "socket.laz")
    assert "cannot be opened: No such file" in refused(owner, tmp_path / "absent.laz")


@pytest.mark.parametrize(
    "name",
    [
        "new\nline.laz",
        "escape\x1b[2J.laz",
        os.fsdecode(b"\xff\xfe.laz"),
        "-rf.laz",
        ".hidden.laz",
        "a\\b.laz",
    ],
)
def test_names_that_could_do_harm_are_refused(owner, make_cloud, tmp_path, name):
    said = refused(owner, make_cloud().rename(tmp_path / name))
    assert "Rename it" in said
    assert said.isprintable()


def test_names_must_differ_and_end_well(owner, make_cloud, tmp_path):
    first = make_cloud()
    (tmp_path / "other").mkdir()
    second = make_cloud("other/cloud.laz")
    assert "names must differ" in refused(owner, first, second)
    assert "ending .txt is not supported" in refused(owner, first.rename(tmp_path / "cloud.txt"))


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\nb"])
def test_an_export_needs_a_name(owner, make_cloud, name):
    assert "needs a name" in refused(owner, make_cloud(), name=name)


def test_an_export_needs_files(owner):
    assert "1 to 10000 files" in refused(owner)


def test_only_the_owner_sees_an_export(owner, make_cloud):
    export = operations.import_export(owner=owner, name="city", files=[make_cloud()])
    outsider = User.objects.create(username="outsider")
    assert list(queries.visible_to(owner)) == [export]
    assert not queries.visible_to(outsider).exists()


def test_points_on_one_spot_have_a_footprint(owner, make_cloud):
    (file,) = operations.import_export(owner=owner, name="one", files=[make_cloud(points=1)]).files.all()
    polygon = shapely.from_wkb(bytes(file.footprint))
    assert polygon.geom_type == "Polygon"
    assert polygon.area == pytest.approx(0.02**2)


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_a_sentence_within_10_s_and_1_gb(shared, name):
    """Limits are on processor time, because wall-clock time depends on how busy the machine is."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(shared / "bad" / name)],
        capture_output=True,
        check=True,
        timeout=30,
    )
    answer = json.loads(done.stdout)
    assert BAD[name] in answer["said"]
    assert answer["said"].endswith(".")
    assert answer["rss"] < 1024**3
    assert answer["seconds"] < 10


def test_every_shared_bad_file_is_covered(shared):
    assert {path.name for path in (shared / "bad").iterdir()} == {*BAD, "gps-time-nan.las"}


def test_all_bad_files_at_once(owner, shared):
    lines = refused(owner, *sorted((shared / "bad").iterdir())).splitlines()
    assert len(lines) == len(BAD)


def test_every_shared_good_file_is_covered(shared):
    assert {f"{path.parent.name}/{path.name}" for path in shared.glob("[st]*/*")} == set(GOOD)


def test_every_good_file_is_imported(owner, shared):
    export = operations.import_export(owner=owner, name="all", files=[shared / name for name in GOOD])
    files = list(export.files.all())
    assert [(file.points, file.las_version, file.point_format) for file in files] == list(GOOD.values())
    for file in files:
        assert all(math.isfinite(value) for value in file.bounds)
        hull = shapely.from_wkb(bytes(file.footprint))
        assert hull.is_valid
        assert hull.bounds == pytest.approx((*file.bounds[0:2], *file.bounds[3:5]), abs=0.02)
    assert {file.name: file.crs_name for file in files}[
        "autzen_trim.laz"
    ] == "NAD_1983_HARN_Lambert_Conformal_Conic"


def test_the_shared_folder_is_looked_for_beside_the_tree():
    assert SHARED.parts[-2:] == ("shared", "data")


def test_an_import_leaves_as_much_disk_free_as_the_instance_needs(owner, make_cloud, settings, monkeypatch):
    """At the start, and after each piece that it copies; nothing is left of an import that ends."""
    file = make_cloud()
    before = settings.GRIDAPPS
    settings.GRIDAPPS = before.model_copy(update={"min_free_disk": 2**60})
    with pytest.raises(DiskNearlyFull, match=r"nearly full: .* are free, and 1048576 TiB have to stay free"):
        operations.import_export(owner=owner, name="a", files=[file])
    settings.GRIDAPPS = before

    def full_later(*_directories, floor, more=0):
        if more:
            raise DiskNearlyFull("full")

    monkeypatch.setattr(free_disk, "require", full_later)
    monkeypatch.setattr(stored_files, "_link", lambda *_: False)
    with pytest.raises(DiskNearlyFull):
        operations.import_export(owner=owner, name="a", files=[file])
    assert not Export.objects.exists()
    assert [*(stored_files.root() or Path()).iterdir()] == []
