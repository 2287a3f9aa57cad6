"""One contract for every storage: a directory, and S3 with a real server."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridapps.storage.directory import DirectoryStorage
from gridapps.storage.interface import Missing, Storage, StorageUnavailable
from gridapps.storage.s3 import S3Storage
from tests.fixtures.s3 import BUCKET, CREDENTIALS, S3Server, serving

STRANGE = "a b/ü'\";%41?#&+.txt"
Away = Callable[[], None]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with serving() as server:
        yield server


def s3_storage(server: S3Server, prefix: str, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return S3Storage(bucket=BUCKET, prefix=prefix, endpoint=server.endpoint, region="us-east-1")


@pytest.fixture(params=["directory", "s3", "s3 without prefix"])
def storage(request, server: S3Server, tmp_path: Path, monkeypatch) -> Storage:
    if request.param == "directory":
        (tmp_path / "outputs").mkdir()
        return DirectoryStorage(tmp_path)
    prefix = f"test/{os.urandom(4).hex()}" if request.param == "s3" else ""
    found = s3_storage(server, prefix, monkeypatch)
    for entry in found.entries("outputs/"):
        found.remove(entry.key)
    return found


def put(storage: Storage, key: str, data: bytes) -> None:
    storage.put(key, io.BytesIO(data), size=len(data))


def get(storage: Storage, key: str, **between: int) -> bytes:
    return b"".join(storage.read(key, **between))


@pytest.mark.parametrize("data", [b"", b"x", b"hello" * 1000])
def test_what_was_put_is_read(storage: Storage, data: bytes) -> None:
    put(storage, f"outputs/{STRANGE}", data)
    assert get(storage, f"outputs/{STRANGE}") == data
    assert storage.size(f"outputs/{STRANGE}") == len(data)


def test_large_objects_go_in_parts_and_come_in_pieces(storage: Storage) -> None:
    data = os.urandom(20 * 1024**2 + 12345)
    put(storage, "outputs/large", data)
    pieces = list(storage.read("outputs/large"))
    assert max(map(len, pieces)) <= 1024**2
    assert hashlib.sha256(b"".join(pieces)).digest() == hashlib.sha256(data).digest()


def test_ranges(storage: Storage) -> None:
    put(storage, "outputs/a", b"0123456789")
    assert get(storage, "outputs/a", start=3) == b"3456789"
    assert get(storage, "outputs/a", start=3, stop=5) == b"34"
    assert get(storage, "outputs/a", start=8, stop=99) == b"89"
    assert get(storage, "outputs/a", start=3, stop=3) == b""
    assert get(storage, "outputs/a", start=10) == get(storage, "outputs/a", start=99) == b""


def test_what_is_not_there(storage: Storage) -> None:
    with pytest.raises(Missing):
        storage.read("outputs/nothing")
    with pytest.raises(Missing):
        storage.size("outputs/nothing")
    storage.remove("outputs/nothing")
    assert list(storage.entries("outputs/nothing/")) == []


def test_a_second_put_replaces(storage: Storage) -> None:
    put(storage, "outputs/a", b"one")
    put(storage, "outputs/a", b"second")
    assert get(storage, "outputs/a") == b"second"


class Breaks:
    """A source that fails after some reads."""

    def __init__(self, good: int) -> None:
        self._good = good

    def read(self, size: int = -1, /) -> bytes:
        if not self._good:
            raise ValueError("changed")
        size = min(size, self._good)
        self._good -= size
        return b"x" * size


@pytest.mark.parametrize("size", [100, 20 * 1024**2])
def test_a_put_that_breaks_off_leaves_nothing(storage: Storage, size: int) -> None:
    with pytest.raises(ValueError, match="changed"):
        storage.put("outputs/half", Breaks(size - 10), size=size)
    with pytest.raises(Missing):
        storage.size("outputs/half")
    assert list(storage.entries("outputs/")) == []


def test_entries_and_removal(storage: Storage) -> None:
    for key in ("a/1/x", "a/1/y/z", "a/10/x", "b"):
        put(storage, f"outputs/{key}", key.encode())
    assert [(entry.key, entry.size) for entry in storage.entries("outputs/")] == [
        ("outputs/a/1/x", 5), ("outputs/a/1/y/z", 7), ("outputs/a/10/x", 6), ("outputs/b", 1),
    ]  # fmt: skip
    assert [entry.key for entry in storage.entries("outputs/a/1/")] == ["outputs/a/1/x", "outputs/a/1/y/z"]
    storage.remove("outputs/a/1")
    assert [entry.key for entry in storage.entries("outputs/")] == ["outputs/a/10/x", "outputs/b"]
    storage.remove("outputs/b")
    assert [entry.key for entry in storage.entries("outputs/")] == ["outputs/a/10/x"]


def test_more_entries_than_a_page(tmp_path: Path, monkeypatch) -> None:
    """The objects exist before the server starts, because it caches listings for a moment."""
    server = S3Server(tmp_path)
    top = server.bucket / "many" / "outputs"
    top.mkdir(parents=True)
    for number in range(1100):
        (top / f"{number:04}").touch()
    server.start()
    try:
        storage = s3_storage(server, "many", monkeypatch)
        assert sum(1 for _ in storage.entries("outputs/")) == 1100
        storage.remove("outputs")
        assert list(storage.entries("outputs/")) == []
    finally:
        server.stop()


def test_a_service_that_is_away_or_refuses_is_unavailable(s3: S3Server, monkeypatch) -> None:
    storage = s3_storage(s3, "p", monkeypatch)
    put(storage, "outputs/a", b"hello")
    elsewhere = S3Storage(bucket="other", prefix="", endpoint=s3.endpoint, region="us-east-1")
    with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
        put(elsewhere, "outputs/a", b"hello")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    stranger = S3Storage(bucket=BUCKET, prefix="p", endpoint=s3.endpoint, region="us-east-1")
    with pytest.raises(StorageUnavailable, match="refuses") as refused:
        get(stranger, "outputs/a")
    assert "secret" not in str(refused.value)
    s3.stop()
    with pytest.raises(StorageUnavailable, match="does not answer"):
        get(storage, "outputs/a")
    with pytest.raises(StorageUnavailable):
        put(storage, "outputs/b", b"hello")
    s3.start()
    assert get(storage, "outputs/a") == b"hello"


def test_a_directory_that_is_not_mounted_is_unavailable(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    for action in (lambda: storage.read("outputs/a"), lambda: put(storage, "outputs/a", b"x")):
        with pytest.raises(StorageUnavailable, match="not mounted"):
            action()
    assert list(tmp_path.iterdir()) == []
