"""A provider of point clouds: files with false headers and misleading names, through the real import.

tests/exports/test_headers.py and test_import.py try each fault alone; tests/fuzz modifies headers at random.
"""

import os
import struct
import time
from pathlib import Path

import pytest

from tests.attacks.scene import Scene
from tests.fixtures.pointclouds import write_pointcloud

SPARSE = 200 * 1024**3


def _patched(good: bytes, at: int, content: bytes) -> bytes:
    return good[:at] + content + good[at + len(content) :]


def lies(good: bytes) -> dict[str, bytes]:
    """Files with a fault each: name -> content. Offsets are those of the LAS 1.4 header."""
    nan, infinite = struct.pack("<d", float("nan")), struct.pack("<d", float("inf"))
    table = struct.unpack_from("<q", good, struct.unpack_from("<I", good, 96)[0])[0]
    return {
        "empty": b"",
        "no-signature": b"GIF8" + good[4:],
        "elf": b"\x7fELF" + good[4:],
        "zip": b"PK\x03\x04" + good[4:],
        "version": _patched(good, 24, b"\x09\x09"),
        "header-size": _patched(good, 94, b"\xff\xff"),
        "header-size-0": _patched(good, 94, b"\0\0"),
        "data-behind-end": _patched(good, 96, b"\xff\xff\xff\xff"),
        "data-at-0": _patched(good, 96, b"\0\0\0\0"),
        "vlrs": _patched(good, 100, b"\xff\xff\xff\xff"),
        "format": _patched(good, 104, b"\xbf"),
        "format-without-laszip": _patched(good, 104, b"\x06"),
        "record-length": _patched(good, 105, b"\xff\xff"),
        "record-length-0": _patched(good, 105, b"\0\0"),
        "points": _patched(good, 247, b"\xff" * 8),
        "points-0": _patched(good, 247, b"\0" * 8),
        "scale-0": _patched(good, 131, b"\0" * 8),
        "scale-nan": _patched(good, 131, nan),
        "offset-infinite": _patched(good, 155, infinite),
        "evlrs": _patched(good, 235, struct.pack("<QI", len(good), 0xFFFFFFFF)),
        "chunk-table": _patched(good, struct.unpack_from("<I", good, 96)[0], struct.pack("<q", 2**62)),
        "chunk-table-before": _patched(good, struct.unpack_from("<I", good, 96)[0], struct.pack("<q", 1)),
        "chunks": _patched(good, table + 4, b"\xff\xff\xff\xff"),
        "cut": good[: len(good) // 2],
        "cut-in-header": good[:100],
        "noise": good[:375] + os.urandom(len(good) - 375),
        "points-of-noise": good[: table - 200] + os.urandom(150) + good[table - 50 :],
    }


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    return write_pointcloud(tmp_path / "good.laz", points=500).read_bytes()


def test_files_that_lie_are_refused_each_with_a_reason(scene: Scene, tmp_path: Path, good: bytes) -> None:
    """One import of all files names each of them and imports none."""
    false = lies(good)
    files = []
    for name, content in false.items():
        files.append(tmp_path / f"{name}.laz")
        files[-1].write_bytes(content)
    sparse = tmp_path / "sparse-records.laz"
    sparse.write_bytes(_patched(good, 235, struct.pack("<QI", len(good), 0xB0000000)))
    os.truncate(sparse, SPARSE)
    begun = time.monotonic()
    printed = scene.instance.run_server_command(
        "import", *map(str, files), str(sparse), "--owner", scene.tom.name, "--name", "lies", check=False
    )
    assert time.monotonic() - begun < 120
    assert "Traceback" not in printed
    named = {line.partition(".laz:")[0].removeprefix("Error: ").strip() for line in printed.splitlines()}
    # Noise that decodes to points within the bounds cannot be distinguished from a point cloud.
    assert {*false, "sparse-records"} - named <= {"points-of-noise"}, printed
    exports = scene.tom.ask("GET", "/exports").json()["exports"]
    assert "lies" not in {export["name"] for export in exports}


def test_what_is_no_file_or_misleads_by_its_name_is_refused(
    scene: Scene, tmp_path: Path, good: bytes
) -> None:
    secret = scene.instance.data / "secret-key"
    (tmp_path / "link.laz").symlink_to(secret)
    (tmp_path / "hard.laz").hardlink_to(secret)
    (tmp_path / "loop.laz").symlink_to(tmp_path / "loop.laz")
    (tmp_path / "directory.laz").mkdir()
    os.mkfifo(tmp_path / "fifo.laz")
    names = ["link.laz", "hard.laz", "loop.laz", "directory.laz", "fifo.laz", "absent.laz"]
    for name in (
        "-rf.laz",
        ".hidden.laz",
        "a\\b.laz",
        "new\nline.laz",
        "\x1b[2J.laz",
        "a.exe",
        "\u202ezal.x.laz",
    ):
        (tmp_path / name).write_bytes(good)
        names.append(name)

    files = [str(tmp_path / name) for name in names]
    printed = scene.instance.run_server_command(
        "import", "--owner", scene.tom.name, "--name", "odd", "--", *files, check=False
    )
    assert "Traceback" not in printed, printed
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert secret.read_text() not in printed
    assert not printed.startswith("Export ")
    exports = scene.tom.ask("GET", "/exports").json()["exports"]
    assert "odd" not in {export["name"] for export in exports}
