"""Collecting what a hostile program left."""

import errno
import hashlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridapps.worker.collection import Collected, collect
from gridapps.worker.output_names import media_type

MIB = 1024**2


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    (tmp_path / "grid").mkdir()
    return tmp_path / "grid"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "files"


def _collect(grid: Path, target: Path, **limits: int) -> Collected:
    return collect(
        os.open(grid, os.O_RDONLY | os.O_DIRECTORY),
        target,
        **{"max_files": 100, "max_bytes": 10 * MIB, **limits},
    )


def _reason(collected: Collected, path: str) -> str:
    (why,) = [item.why for item in collected.left_out if item.path == path]
    return why


def test_files_are_copied_with_size_and_digest(grid: Path, target: Path) -> None:
    (grid / "a" / "b").mkdir(parents=True)
    content = {"stdout.txt": b"", "ünï.geojson": b"{}", "a/b/dtm.tif": os.urandom(3 * MIB + 5)}
    for path, data in content.items():
        (grid / path).write_bytes(data)
    collected = _collect(grid, target)
    assert collected.left_out == []
    assert {file.path: file.size for file in collected.outputs} == {k: len(v) for k, v in content.items()}
    for file in collected.outputs:
        assert (target / file.path).read_bytes() == content[file.path]
        assert file.sha256 == hashlib.sha256(content[file.path]).hexdigest()
        assert (target / file.path).stat().st_mode & 0o7777 == 0o640
    for directory in (target, target / "a", target / "a" / "b"):
        assert directory.stat().st_mode & 0o7777 == 0o750


def test_modes_do_not_depend_on_the_umask(grid: Path, target: Path) -> None:
    (grid / "d").mkdir()
    (grid / "d" / "x").write_bytes(b"x")
    (grid / "d" / "x").chmod(0o6777)
    old = os.umask(0o077)
    try:
        _collect(grid, target)
    finally:
        os.umask(old)
    assert (target / "d" / "x").stat().st_mode & 0o7777 == 0o640
    assert (target / "d").stat().st_mode & 0o7777 == 0o750


def test_collecting_again_replaces(grid: Path, target: Path) -> None:
    (grid / "a").write_bytes(b"1")
    _collect(grid, target)
    (grid / "a").rename(grid / "b")
    assert [file.path for file in _collect(grid, target).outputs] == ["b"]
    assert [path.name for path in target.iterdir()] == ["b"]


def _pipe(grid: Path) -> None:
    os.mkfifo(grid / "x")


def _socket(grid: Path) -> None:
    here = Path.cwd()
    os.chdir(grid)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("x")
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_pipe, "named pipe"),
        (_socket, "socket"),
    ],
)
def test_only_regular_files_are_taken(
    grid: Path, target: Path, make: Callable[[Path], None], words: str
) -> None:
    make(grid)
    collected = _collect(grid, target)
    assert collected.outputs == []
    assert words in _reason(collected, "x")
    assert collected.lost_count == 0, "it has no content"
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    ("link", "leads_to"),
    [
        ("latest.txt", "v1/dtm.txt"),
        ("v2/deep/up.txt", "../../v1/dtm.txt"),
        ("absolute.txt", "/grid/v1/dtm.txt"),
        ("second.txt", "first.txt"),
        ("through.txt", "current/dtm.txt"),
    ],
)
def test_a_link_to_a_file_in_grid_is_an_output(grid: Path, target: Path, link: str, leads_to: str) -> None:
    (grid / "v1").mkdir()
    (grid / "v2" / "deep").mkdir(parents=True)
    (grid / "v1" / "dtm.txt").write_text("42")
    (grid / "first.txt").symlink_to("v1/dtm.txt")
    (grid / "current").symlink_to("v1")
    (grid / link).symlink_to(leads_to)
    collected = _collect(grid, target)
    assert {file.path for file in collected.outputs} == {"v1/dtm.txt", "first.txt", link}
    assert (target / link).read_text() == "42"
    assert not (target / link).is_symlink()
    assert (target / link).stat().st_mode & 0o7777 == 0o640
    assert "under their own names" in _reason(collected, "current")
    assert (collected.left_out_count, collected.lost_count) == (1, 0)


@pytest.mark.parametrize(
    ("leads_to", "words", "lost"),
    [
        ("/etc/passwd", "leads out of /grid", 1),
        ("/grid/../etc/passwd", "leads out of /grid", 1),
        ("../outside.txt", "leads out of /grid", 1),
        ("d/../../outside.txt", "leads out of /grid", 1),
        ("out/outside.txt", "leads out of /grid", 1),
        ("/proc/self/fd/0", "leads out of /grid", 1),
        ("/", "leads out of /grid", 1),
        ("/grid", "under their own names", 0),
        ("/grid/", "under their own names", 0),
        ("/grid//etc", "leads to nothing", 0),
        ("nothing", "leads to nothing", 0),
        ("file/x", "leads to nothing", 0),
        ("x", "loop", 0),
        ("pipe", "not lead to a regular file", 0),
        ("chain-41", "loop", 0),
        ("/grid/" + "y/" * 2000, "leads to nothing", 0),
    ],
)
def test_other_links_are_left_out(grid: Path, target: Path, leads_to: str, words: str, lost: int) -> None:
    (grid.parent / "outside.txt").write_text("secret")
    (grid / "d").mkdir()
    (grid / "file").touch()
    (grid / "out").symlink_to("..")
    os.mkfifo(grid / "pipe")
    (grid / "chain-0").symlink_to("file")
    for number in range(1, 42):
        (grid / f"chain-{number}").symlink_to(f"chain-{number - 1}")
    before = _collect(grid, target)
    (grid / "x").symlink_to(leads_to)
    collected = _collect(grid, target)
    assert {file.path for file in collected.outputs} == {file.path for file in before.outputs}
    assert words in _reason(collected, "x")
    assert collected.lost_count - before.lost_count == lost
    assert not any("secret" in path.read_text() for path in target.rglob("*") if path.is_file())


def test_links_count_against_the_limits_after_files(grid: Path, target: Path) -> None:
    (grid / "z").write_bytes(os.urandom(4 * MIB))
    for number in range(5):
        (grid / f"a{number}").symlink_to("z")
    (grid / "zz").write_bytes(os.urandom(4 * MIB))
    collected = _collect(grid, target)
    assert [file.path for file in collected.outputs] == ["z", "zz"]
    assert (collected.left_out_count, collected.lost_count) == (5, 0), "their content is kept"


def test_a_link_gives_a_file_with_a_bad_name_another_one(grid: Path, target: Path) -> None:
    Path(os.fsdecode(os.fsencode(grid) + b"/Geb\xe4ude.txt")).write_text("42")
    (grid / "buildings.txt").symlink_to(os.fsdecode(b"Geb\xe4ude.txt"))
    collected = _collect(grid, target)
    assert [file.path for file in collected.outputs] == ["buildings.txt"]
    assert "not UTF-8" in _reason(collected, "Geb\\xe4ude.txt")


def test_a_path_that_no_database_indexes_is_left_out(grid: Path, target: Path) -> None:
    place = grid
    for _ in range(9):
        place /= "\N{GOTHIC LETTER AHSA}" * 63
        place.mkdir()
    (place / "x").touch()
    collected = _collect(grid, target)
    assert collected.outputs == []
    assert "2048 bytes" in collected.left_out[0].why


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device needs root")
def test_a_device_is_not_opened(grid: Path, target: Path) -> None:
    os.mknod(grid / "x", 0o20666, os.makedev(1, 5))  # /dev/zero
    assert "device" in _reason(_collect(grid, target), "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="root reads them, as the worker does")
def test_closed_files_and_directories_are_taken(grid: Path, target: Path) -> None:
    (grid / "d").mkdir()
    (grid / "d" / "x").write_bytes(b"x")
    (grid / "d" / "x").chmod(0)
    (grid / "d").chmod(0)
    assert [file.path for file in _collect(grid, target).outputs] == ["d/x"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"a\nb", ("a\\nb", "control")),
        (b"a\x1b[31m", ("a\\x1b[31m", "control")),
        (b"\xff\xfe", ("\\xff\\xfe", "UTF-8")),
        ("a\u202egpj.exe".encode(), ("a\\u202egpj.exe", "direction")),
        ("a\u2028b".encode(), ("a\\u2028b", "control")),
    ],
)
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_names_that_mislead_are_left_out_and_shown_escaped(
    grid: Path, target: Path, name: bytes, told: tuple[str, str], kind: str
) -> None:
    place = os.fsencode(grid) + b"/" + name
    if kind == "file":
        Path(os.fsdecode(place)).write_bytes(b"x")
    else:
        Path(os.fsdecode(place)).mkdir()
        Path(os.fsdecode(place + b"/inside")).write_bytes(b"x")
    collected = _collect(grid, target)
    assert collected.outputs == []
    shown, words = told
    assert words in _reason(collected, shown)


def test_sparse_files_stay_sparse_and_count_by_their_size(grid: Path, target: Path) -> None:
    with (grid / "sparse").open("wb") as file:
        file.seek(5 * MIB)
        file.write(b"middle")
        file.truncate(9 * MIB)
    with (grid / "too-large").open("wb") as file:
        file.truncate(1 << 43)
    collected = _collect(grid, target)
    (file_,) = collected.outputs
    content = bytes(5 * MIB) + b"middle" + bytes(4 * MIB - 6)
    assert (file_.size, file_.sha256) == (9 * MIB, hashlib.sha256(content).hexdigest())
    assert (target / "sparse").read_bytes() == content
    assert (target / "sparse").stat().st_blocks * 512 < MIB
    assert "larger" in _reason(collected, "too-large")


def test_bytes_are_limited_over_all_files(grid: Path, target: Path) -> None:
    for name in "abc":
        (grid / name).write_bytes(bytes(4 * MIB))
    collected = _collect(grid, target)
    assert [file.path for file in collected.outputs] == ["a", "b"]
    assert "larger" in _reason(collected, "c")


def test_hard_links_cannot_multiply_bytes(grid: Path, target: Path) -> None:
    (grid / "a").write_bytes(bytes(3 * MIB))
    for number in range(50):
        os.link(grid / "a", grid / f"b{number:02}")
    collected = _collect(grid, target)
    assert len(collected.outputs) == 3
    assert sum(path.stat().st_size for path in target.iterdir()) <= 10 * MIB


def test_files_are_counted(grid: Path, target: Path) -> None:
    for number in range(7):
        (grid / f"{number}").touch()
    collected = _collect(grid, target, max_files=5)
    assert len(collected.outputs) == 5
    assert "5 files" in _reason(collected, "5")


def test_depth_is_limited(grid: Path, target: Path) -> None:
    descriptor = os.open(grid, os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    (grid / "d" / "near").touch()
    try:
        collected = _collect(grid, target)
    finally:
        os.system(f"rm -rf {grid}")
    assert [file.path for file in collected.outputs] == ["d/near"]
    (left,) = collected.left_out
    assert "deeper than 128" in left.why


def test_long_paths_are_left_out(grid: Path, target: Path) -> None:
    place = grid
    for _ in range(5):
        place /= "d" * 250
        place.mkdir()
        (place / "x").touch()
    collected = _collect(grid, target)
    assert len(collected.outputs) == 4
    (left,) = collected.left_out
    assert "1024" in left.why
    assert len(left.path) <= 300


def test_the_list_of_what_was_left_out_is_bounded(grid: Path, target: Path) -> None:
    for number in range(250):
        (grid / f"{number:03}").symlink_to("nowhere")
    (grid / "too-large").write_bytes(bytes(11 * MIB))
    collected = _collect(grid, target)
    assert (len(collected.left_out), collected.left_out_count, collected.lost_count) == (100, 251, 1)
    assert collected.left_out[0].path == "too-large", "what is lost is named first"


def test_a_file_that_is_cut_meanwhile_is_left_out(
    grid: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (grid / "a").write_bytes(os.urandom(4 * MIB))
    real = os.pread

    def cutting(descriptor: int, size: int, offset: int) -> bytes:
        chunk = real(descriptor, size, offset)
        os.truncate(grid / "a", MIB)
        return chunk

    monkeypatch.setattr(os, "pread", cutting)
    collected = _collect(grid, target)
    assert collected.outputs == []
    assert "cut" in _reason(collected, "a")
    assert not (target / "a").exists()


def test_a_file_that_is_replaced_by_a_link_meanwhile_is_left_out(
    grid: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (grid / "a").write_bytes(b"x")
    real = os.open

    def swapping(path: object, flags: int, *rest: int, **more: int) -> int:
        if path == b"a":
            (grid / "a").unlink()
            (grid / "a").symlink_to("/etc/passwd")
        return real(path, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swapping)
    assert _collect(grid, target).outputs == []


def test_no_descriptor_is_left_open(grid: Path, target: Path) -> None:
    (grid / "a" / "b").mkdir(parents=True)
    (grid / "a" / "x").symlink_to("nowhere")
    (grid / "a" / "b" / "y").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    _collect(grid, target)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_no_descriptor_is_left_open_by_a_full_disk(
    grid: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (grid / "a" / "b").mkdir(parents=True)
    (grid / "a" / "b" / "y").write_text("y")

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for place in (grid, grid / "a", grid / "a" / "b"):
        with pytest.raises(OSError, match="No space"):
            _collect(place, target)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


_NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(_NAMES, st.binary(max_size=50), max_size=8))
def test_whatever_the_names_everything_is_taken_or_named(
    tmp_path_factory: pytest.TempPathFactory, files: dict[bytes, bytes]
) -> None:
    top = tmp_path_factory.mktemp("names")
    (top / "grid").mkdir()
    for name, content in files.items():
        Path(os.fsdecode(os.fsencode(top / "grid") + b"/" + name)).write_bytes(content)
    collected = _collect(top / "grid", top / "files")
    assert len(collected.outputs) + len(collected.left_out) == len(files)
    for file in collected.outputs:
        assert (top / "files" / file.path).read_bytes() == files[file.path.encode()]
        assert file.path.isprintable() or not any(c < " " or c == "\x7f" for c in file.path)
    for left in collected.left_out:
        left.path.encode()
        assert left.path.isprintable()
    shutil.rmtree(top)


def test_media_types_go_by_the_ending() -> None:
    assert media_type("a/B.TIF") == "image/tiff"
    assert media_type("x.geojson") == "application/geo+json"
    assert media_type("x.copc.laz") == "application/vnd.laszip+copc"
    assert media_type("x.laz") == "application/vnd.laszip"
    assert media_type("x.png") == "image/png"
    assert media_type("x.tar.gz") == "application/octet-stream"
    assert media_type("x") == "application/octet-stream"


@pytest.mark.parametrize(
    "name",
    [
        "CON",
        "nul",
        "Com1.txt",
        "LPT\u00b3.tif",
        "aux.tar.gz",
        "NUL .txt",
        "conin$",
        "con/x",
    ],
)
def test_names_that_windows_takes_for_something_else_are_left_out(
    grid: Path, target: Path, name: str
) -> None:
    (grid / name).parent.mkdir(exist_ok=True)
    (grid / name).write_bytes(b"x")
    collected = _collect(grid, target)
    assert collected.outputs == []
    (left,) = collected.left_out
    assert "Windows" in left.why


@pytest.mark.parametrize(
    "name",
    [
        *("CONSOLE", "com.txt", "com10", "null", ".nul", "lpt", "aux_1.csv", "dtm.tif.aux.xml"),
        *("a.", "a ", " ", "...", "C:\\out\\dtm.tif", "..\\..\\x"),
    ],
)
def test_other_names_that_a_file_system_can_hold_are_taken(grid: Path, target: Path, name: str) -> None:
    (grid / name).write_bytes(b"x")
    assert [file.path for file in _collect(grid, target).outputs] == [name]


def test_of_too_much_standard_output_the_beginning_is_kept(grid: Path, target: Path) -> None:
    """Otherwise a program that prints too much would lose all of its output."""
    (grid / "stdout.txt").write_bytes(b"first line\n" + b"x" * MIB)
    collected = _collect(grid, target, max_bytes=1000)
    ((path, size),) = [(file.path, file.size) for file in collected.outputs]
    assert (path, size) == ("stdout.txt", 1000)
    kept = (target / "stdout.txt").read_bytes()
    assert kept.startswith(b"first line\n")
    assert collected.outputs[0].sha256 == hashlib.sha256(kept).hexdigest()
    assert "cut after 1000 bytes" in _reason(collected, "stdout.txt")


def test_only_standard_output_is_cut(grid: Path, target: Path) -> None:
    (grid / "a").mkdir()
    for path in ("a/stdout.txt", "other.txt"):
        (grid / path).write_bytes(b"x" * 2000)
    assert _collect(grid, target, max_bytes=1000).outputs == []
