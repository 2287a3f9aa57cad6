"""The process that reads points: its privileges and limits, and what a file that ends it costs."""

import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from bench.clouds import sparse_cloud
from gridapps.exports import facts
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.reader_process import Reader


def test_points_are_read_without_privileges(make_cloud):
    """Libraries in C and Rust decode untrusted files, so they run as nobody and without a network."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with Reader() as reader:
        facts.measure(make_cloud(), reader)
        status = Path(f"/proc/{reader.pid}/status").read_text()
        devices = Path(f"/proc/{reader.pid}/net/dev").read_text()
        limits = Path(f"/proc/{reader.pid}/limits").read_text()
    for line in (
        r"Uid:\t65534\t65534\t65534\t65534",
        r"Gid:\t65534\t65534\t65534\t65534",
        r"Groups:\t ?",
        r"CapEff:\t0+",
        r"NoNewPrivs:\t1",
    ):
        assert re.search(f"^{line}$", status, re.M)
    assert re.findall(r"^ *(\w+):", devices, re.M) == ["lo"]
    assert re.search(r"^Max address space +1073741824 +1073741824 ", limits, re.M)
    assert re.search(r"^Max file size +0 +0 ", limits, re.M)


def test_one_process_reads_many_files_and_ends_with_its_context(make_cloud):
    with Reader() as reader:
        assert reader.pid is None
        points = [facts.measure(make_cloud(points=count), reader).points for count in (10, 20, 30)]
        pid = reader.pid
        assert facts.measure(make_cloud(points=40), reader).points == 40
        assert (points, reader.pid) == ([10, 20, 30], pid)
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()


def test_a_file_that_kills_the_reader_costs_itself_only(make_cloud, tmp_path):
    """A chunk table of 200 million chunks in a sparse file takes all memory that the reader may have."""
    good, bad = make_cloud(), make_cloud("bad.laz")
    raw = bytearray(bad.read_bytes())
    record = raw.index(b"laszip encoded") - 2 + 54
    (data,) = struct.unpack_from("<I", raw, 96)
    struct.pack_into("<I", raw, record + 12, 0xFFFFFFFF)
    table = 40 * 1024**3
    struct.pack_into("<q", raw, data, table)
    bad.write_bytes(raw)
    with bad.open("r+b") as file:
        file.truncate(table + 10**9)
        os.pwrite(file.fileno(), struct.pack("<II", 0, 200_000_000), table)
    with Reader() as reader:
        assert facts.measure(good, reader).points == 1000
        with pytest.raises(BadPointCloud, match=r"1 GB of memory"):
            facts.measure(bad, reader)
        assert facts.measure(good, reader).points == 1000


def test_a_reader_that_was_killed_is_started_again(make_cloud):
    with Reader() as reader:
        facts.measure(make_cloud(), reader)
        assert reader.pid is not None
        first = reader.pid
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert facts.measure(make_cloud(), reader).points == 1000
        assert reader.pid != first


def test_a_file_has_processor_time_of_its_own(make_cloud, tmp_path):
    large = sparse_cloud(tmp_path / "large.las", size=60 * 1024**3)
    with Reader() as reader:
        with (
            large.open("rb") as file,
            pytest.raises(BadPointCloud, match="could not be read in 1 s"),
        ):
            reader.answer(file.fileno(), seconds=1)
        assert facts.measure(make_cloud(), reader).points == 1000


def test_a_reader_that_does_not_answer_is_ended(make_cloud):
    with Reader() as reader:
        facts.measure(make_cloud(), reader)
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGSTOP)
        with make_cloud().open("rb") as file, pytest.raises(BadPointCloud, match="could not be read in"):
            reader.answer(file.fileno(), seconds=0.05)
        assert reader.pid is None


GOOD = {
    "las_version": "1.4", "point_format": 6, "points": 1, "bounds": [0] * 6, "returns": [0] * 15,
    "gps_time": None, "crs": "", "crs_name": "", "crs_code": "", "corners": [[0, 0], [1, 0], [1, 1]],
    "geojson": None, "remarks": [],
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"points": -1},
        {"points": 2**70},
        {"bounds": [0] * 5},
        {"corners": [[0, 0]] * 5000},
        {"crs": "x" * 70_000},
        {"remarks": ["x"] * 21},
        {"remarks": ["x" * 1001]},
        {"geojson": {"type": "Polygon", "coordinates": "x"}},
        {"geojson": {"type": "Point", "coordinates": [0, 0]}},
        {"returns": None},
        {"bad": 7},
    ],
)
def test_an_answer_of_a_reader_that_was_taken_over_is_refused(changes):
    assert facts._decoded(json.dumps(GOOD).encode()).points == 1
    with pytest.raises(BadPointCloud, match="no valid answer"):
        facts._decoded(json.dumps({**GOOD, **changes}).encode())


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"\xff", b'{"points": NaN}'])
def test_answer_that_is_not_an_object_is_refused(line):
    with pytest.raises(BadPointCloud, match="no valid answer"):
        facts._decoded(line)


def test_the_reader_ends_when_its_parent_is_killed(make_cloud):
    """The socket of a killed import closes, and the reader finds the end of its requests."""
    program = (
        "import pathlib, sys; from gridapps.exports import facts, reader_process\n"
        "reader = reader_process.Reader(); facts.measure(pathlib.Path(sys.argv[1]), reader)\n"
        "print(reader.pid, flush=True)\n"
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, make_cloud()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    handle = os.pidfd_open(pid)
    parent.kill()
    parent.communicate()
    try:
        assert select.select([handle], [], [], 60)[0]
    finally:
        os.close(handle)


def test_failed_start_of_the_reader_is_no_fault_of_a_file(make_cloud, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Reader() as reader, pytest.raises(OSError, match="does not start: it ended with exit code 1"):
        facts.measure(make_cloud(), reader)
