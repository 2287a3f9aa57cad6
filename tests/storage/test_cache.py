"""The node's cache: each content is fetched once, the limit holds, and a crash leaves nothing."""

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridapps.storage.cache import Altered, Cache, CacheFull, Wanted

KB = 1000


def content(number: int, size: int = 4 * KB) -> bytes:
    return bytes([number]) * size


def wanted(data: bytes) -> Wanted:
    return Wanted(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


class Origin:
    """The source of files. Counts the reads."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.fetched = 0

    def use(self, data: bytes, *, by: str, instead: bytes | None = None, slowly: float = 0) -> Path:
        def read() -> Iterator[bytes]:
            self.fetched += 1
            served = data if instead is None else instead
            for start in range(0, len(served), KB):
                time.sleep(slowly)
                yield served[start : start + KB]

        return self.cache.use(wanted(data), by=by, read=read, check=lambda: None)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(Cache(tmp_path / "cache", limit=10 * KB, node="one"))


def kept(cache: Path) -> int:
    return sum(path.stat().st_size for name in ("files", "partial") for path in (cache / name).iterdir())


def test_a_file_is_fetched_once_and_can_be_read_by_anybody(origin: Origin) -> None:
    for number in range(10):
        path = origin.use(content(1), by=f"task-{number}")
        assert path.read_bytes() == content(1)
        assert path.stat().st_mode & 0o777 == 0o444
        origin.cache.release(f"task-{number}")
    assert origin.fetched == 1


def test_many_at_once_fetch_once(origin: Origin, tmp_path: Path) -> None:
    """Like threads of one worker and other processes, each has a cache object on the same directory."""
    others = [Origin(Cache(tmp_path / "cache", limit=10 * KB, node=f"n{number}")) for number in range(4)]
    found: list[bytes] = []

    def use(each: Origin, name: str) -> None:
        found.append(each.use(content(1), by=name, slowly=0.1).read_bytes())

    threads = [
        threading.Thread(target=use, args=(each, f"task-{n}")) for each in [origin, *others] for n in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [content(1)] * 10
    assert sum(each.fetched for each in [origin, *others]) == 1


def test_the_least_recently_used_goes_first(origin: Origin) -> None:
    for number in (1, 2):
        origin.use(content(number), by="x")
        origin.cache.release("x")
        time.sleep(0.01)
    origin.use(content(1), by="x")
    origin.cache.release("x")
    origin.use(content(3), by="x")  # 2 has to be removed
    origin.cache.release("x")
    assert origin.fetched == 3
    origin.use(content(1), by="x")
    assert origin.fetched == 3
    origin.use(content(2), by="y")
    assert origin.fetched == 4


def test_what_is_in_use_stays_and_the_next_waits(origin: Origin, tmp_path: Path) -> None:
    held = [origin.use(content(number), by=f"task-{number}") for number in (1, 2)]
    with pytest.raises(CacheFull, match="in use"):
        origin.use(content(3), by="task-3")
    assert kept(tmp_path / "cache") == 8 * KB
    assert [path.read_bytes() for path in held] == [content(1), content(2)]
    origin.cache.release("task-1")
    origin.use(content(3), by="task-3")
    assert kept(tmp_path / "cache") == 8 * KB


def test_a_file_larger_than_the_limit_comes_alone(origin: Origin, tmp_path: Path) -> None:
    origin.use(content(1), by="a")
    with pytest.raises(CacheFull):
        origin.use(content(9, 30 * KB), by="b")
    origin.cache.release("a")
    assert origin.use(content(9, 30 * KB), by="b").stat().st_size == 30 * KB
    with pytest.raises(CacheFull):
        origin.use(content(1), by="a")
    origin.cache.release("b")
    origin.use(content(1), by="a")
    assert kept(tmp_path / "cache") == 4 * KB


@pytest.mark.parametrize(
    ("instead", "how"),
    [
        (content(1)[:-1], "3999 bytes instead of 4000"),
        (content(1) + b"x", "more bytes instead of 4000"),
        (content(2), "another content"),
        (b"", "0 bytes"),
    ],
)
def test_what_is_not_what_it_should_be_is_not_kept(origin, tmp_path, instead, how) -> None:
    with pytest.raises(Altered, match=how):
        origin.use(content(1), by="a", instead=instead)
    assert kept(tmp_path / "cache") == 0
    assert origin.use(content(1), by="a").read_bytes() == content(1)


def test_a_copy_that_was_cut_is_fetched_again(origin: Origin, tmp_path: Path) -> None:
    path = origin.use(content(1), by="a")
    path.chmod(0o600)
    os.truncate(path, 10)
    origin.cache.release("a")
    assert origin.use(content(1), by="a").read_bytes() == content(1)


def test_waiting_and_fetching_can_be_ended(origin: Origin, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    with pytest.raises(Enough):
        origin.cache.use(wanted(content(1)), by="a", read=lambda: iter([content(1)]), check=check)
    assert kept(tmp_path / "cache") == 0
    elsewhere = tmp_path / "cache" / "partial" / wanted(content(2)).sha256
    with elsewhere.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Enough):
            origin.cache.use(wanted(content(2)), by="a", read=lambda: iter([content(2)]), check=check)


CRASH = """
import hashlib, sys, time
from pathlib import Path
from gridapps.storage.cache import Cache, Wanted
cache = Cache(Path(sys.argv[1]), limit=10_000, node="one")
held, half = b"h" * 4000, b"p" * 4000
def wanted(data):
    return Wanted(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
for name in ("lives", "dead"):
    cache.use(wanted(held), by=name, read=lambda: [held], check=int)
def endless():
    yield half[:2000]
    print("now", flush=True)
    time.sleep(60)
cache.use(wanted(half), by="new", read=endless, check=int)
"""


def test_after_kill_9_what_runs_keeps_its_file_and_the_rest_is_free(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    process = subprocess.Popen([sys.executable, "-c", CRASH, str(directory)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"now\n"
    origin = Origin(Cache(directory, limit=10 * KB, node="one"))
    origin.cache.release_others(keep={"lives", "dead"})
    assert kept(directory) == 8 * KB, "what is being fetched stays"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    origin.cache.release_others(keep={"lives"})
    assert kept(directory) == 4 * KB
    with pytest.raises(CacheFull):
        origin.use(content(1, 7 * KB), by="large")
    assert (directory / "used" / "one" / "lives").read_bytes() == b"h" * 4000
    assert not (directory / "used" / "one" / "dead").exists()
    origin.cache.release_others(keep=set())
    origin.use(content(1, 7 * KB), by="large")
    assert kept(directory) == 7 * KB


def test_nodes_on_one_machine_leave_each_other_alone(origin: Origin, tmp_path: Path) -> None:
    origin.use(content(1), by="a")
    Cache(tmp_path / "cache", limit=10 * KB, node="two").release_others(keep=set())
    with pytest.raises(CacheFull):
        origin.use(content(2, 7 * KB), by="b")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_leaves_nothing_and_is_told(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        origin = Origin(Cache(disk / "cache", limit=10**9, node="one"))
        with pytest.raises(OSError, match="No space left"):
            origin.use(content(1, 100 * KB), by="a")
        assert kept(disk / "cache") == 0
        origin.use(content(1, 20 * KB), by="a")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
