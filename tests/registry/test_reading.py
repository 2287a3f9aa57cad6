"""The processes that read layers: what they may do, what ends them, and who gets a reading slot."""

import gzip
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gridapps.access.models import User
from gridapps.oci import layer_reader
from gridapps.oci.documents import Invalid
from gridapps.oci.layer_contents import examine_layer
from gridapps.oci.layer_tree import TooLarge
from gridapps.pushes import reading
from gridapps.pushes.reading import LayerReader
from gridapps.pushes.registry_client import Unavailable
from tests.fixtures.cast import Cast
from tests.registry.tars import END, entry, extended, header, record, tar

MIB = 1024**2
LAYER = gzip.compress(tar(("a", {}, b"x" * 5000), ("b", {"type": b"2", "linkname": "a"}, b"")))


def examined(reader: LayerReader, *pieces: bytes, files: int = 100) -> Any:
    return reader.examine(pieces, max_size=MIB, max_files=files)


def process_of(reader: LayerReader) -> "subprocess.Popen[bytes]":
    return reader._process


def test_it_finds_what_reading_in_place_finds() -> None:
    with LayerReader() as reader:
        for _ in range(2):  # one process reads all layers of a push
            assert examined(reader, LAYER[:50], b"", LAYER[50:]) == examine_layer(
                [LAYER], max_size=MIB, max_files=100
            )
    assert process_of(reader).returncode is not None


@pytest.mark.parametrize(
    ("pieces", "error"),
    [([b"no tar" * 200], Invalid), ([entry(b"a", bytes(2 * MIB)), END], TooLarge), ([bytes(700)], None)],
)
def test_refusals_arrive_although_more_is_sent(pieces: list[bytes], error: type[Exception] | None) -> None:
    """The process ends with its first refusal; a pipe that is closed at the other side stops nobody."""
    more = (bytes(MIB) for _ in range(5))
    with LayerReader() as reader, pytest.raises(error or Invalid):
        reader.examine((piece for part in (pieces, more) for piece in part), max_size=MIB, max_files=100)


def test_what_the_source_raises_is_raised_and_the_process_ends() -> None:
    def broken() -> Iterator[bytes]:
        yield LAYER[:50]
        raise Unavailable("The registry has gone.")

    with pytest.raises(Unavailable, match="The registry has gone"), LayerReader() as reader:
        reader.examine(broken(), max_size=MIB, max_files=100)
    assert process_of(reader).returncode is not None


def test_it_has_next_to_nothing() -> None:
    """No descriptor but its pipes, no environment, no privileges that it could gain, and limits."""
    inherited = os.open("/", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        with LayerReader() as reader:
            examined(reader, LAYER)
            process = Path(f"/proc/{process_of(reader).pid}")
            assert sorted(each.name for each in (process / "fd").iterdir()) == ["0", "1", "2"]
            assert (process / "environ").read_bytes() == b""
            assert (process / "cwd").readlink() == Path("/")
            status = (process / "status").read_text()
            assert "NoNewPrivs:\t1\n" in status
            soft = {
                limit: resource.prlimit(process_of(reader).pid, limit)
                for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_AS)
            }
            assert soft == {
                resource.RLIMIT_NOFILE: (3, 3),
                resource.RLIMIT_CPU: (layer_reader.PROCESSOR_TIME,) * 2,
                resource.RLIMIT_AS: (layer_reader.MEMORY,) * 2,
            }
            mine = os.getpriority(os.PRIO_PROCESS, 0)
            assert os.getpriority(os.PRIO_PROCESS, process_of(reader).pid) >= min(19, mine + 10)
    finally:
        os.close(inherited)


@pytest.mark.parametrize(
    "attempt", ["open('/etc/passwd')", "__import__('socket').socket()", "open('/tmp/x', 'w')"]
)
def test_it_can_open_nothing(attempt: str) -> None:
    program = (
        f"import socket\nfrom gridapps.oci.layer_reader import confine_reader\nconfine_reader()\n{attempt}"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert "Too many open files" in done.stderr


def test_one_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 1.0)
    endless = (bytes(MIB) for _ in range(10**9))
    head = header(b"zeros", size=b"\x80" + (2**50).to_bytes(11, "big"))
    with LayerReader() as reader, pytest.raises(Invalid, match="takes longer to read than the 1 s"):
        reader.examine((piece for part in ([head], endless) for piece in part), max_size=2**60, max_files=9)


def test_one_that_is_killed_is_no_fault_of_the_layer() -> None:
    def killing() -> Iterator[bytes]:
        process_of(reader).terminate()
        process_of(reader).wait()
        yield LAYER

    with LayerReader() as reader, pytest.raises(Unavailable, match="ended with -15"):
        reader.examine(killing(), max_size=MIB, max_files=100)


def test_names_cannot_fill_its_memory() -> None:
    """Long paths of implied directories and links are refused long before the limit on memory."""

    def many() -> Iterator[bytes]:
        for number in range(4000):
            yield header(b"%07d" % number + b"/x" * 30 + b"/y", kind=b"2", target=b"t" * 100)

    with LayerReader() as reader, pytest.raises((Invalid, TooLarge)):
        reader.examine(many(), max_size=2**40, max_files=100_000)
    longest = b"/".join([b"x" * 200] * 19)
    with LayerReader() as reader, pytest.raises(Invalid, match="more links and large files"):
        reader.examine(
            (_named(b"%d/" % number + longest) for number in range(5000)), max_size=2**40, max_files=10**6
        )


def _named(path: bytes) -> bytes:
    return extended(record(b"path", path)) + header(b"x", kind=b"2", target=b"t")


def waiting(by: User, *, seconds: float) -> "threading.Thread":
    """Take a slot in a thread, hold it for a while, and note when it came."""

    def hold() -> None:
        with reading.slot(by):
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    return thread


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Callable[[int], None]:
    """Sets how many processors there are."""
    settings.DATA = tmp_path
    return lambda number: monkeypatch.setattr(os, "cpu_count", lambda: number)


@pytest.mark.django_db
def test_one_developers_queue_keeps_no_other_waiting(cast: Cast, slots: Callable[[int], None]) -> None:
    slots(1)
    own = [waiting(cast.developer, seconds=0.7) for _ in range(3)]
    time.sleep(0.1)
    began = time.monotonic()
    with reading.slot(cast.analyst):
        waited = time.monotonic() - began
        assert any(thread.is_alive() for thread in own)
    assert waited < 0.5, "a slot is always left for others"
    for thread in own:
        thread.join()


@pytest.mark.django_db
def test_pushes_of_one_developer_come_one_after_the_other(
    cast: Cast, slots: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    slots(8)
    monkeypatch.setattr(reading, "PATIENCE", 0.1)
    with (
        reading.slot(cast.developer),
        pytest.raises(Unavailable, match="Another image of yours is being read"),
        reading.slot(cast.developer),
    ):
        pass
    with reading.slot(cast.developer):
        pass


@pytest.mark.django_db
def test_all_slots_are_taken(
    cast: Cast, slots: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    slots(1)
    monkeypatch.setattr(reading, "PATIENCE", 0.1)
    with (
        reading.slot(cast.developer),
        reading.slot(cast.analyst),
        pytest.raises(Unavailable, match="Other images are being read"),
        reading.slot(cast.administrator),
    ):
        pass


@pytest.mark.django_db
def test_nobody_lines_up_without_end(cast: Cast, slots: Callable[[int], None]) -> None:
    slots(2)
    own = [waiting(cast.developer, seconds=0.4) for _ in range(reading.WAITING)]
    time.sleep(0.1)
    with (
        pytest.raises(Unavailable, match="4 other images of yours"),
        reading.slot(cast.developer),
    ):
        pass
    for thread in own:
        thread.join()
