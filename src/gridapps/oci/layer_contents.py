"""Judges a layer by what it unpacks to, while it streams by: nothing is stored, and memory stays small.

A node's engine unpacks layers as root, onto its own disk, without any limit. So a layer is read here first as
the engine would read it: gzip (or nothing) around a tar, whatever its media type says. Sizes are those that
the engine would write. What is not a plain tree of directories, files and links is refused.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gridapps.oci.archives import BLOCK, Entry, Kind, Reader, rounded
from gridapps.oci.documents import Invalid
from gridapps.oci.trees import MAX_ACCOUNTS, WATCHED, Index

_CLUSTER = 4096  # bytes that a file system gives a file at least
_STEP = 1024**2  # bytes that are unpacked at once
_WHITEOUT, _OPAQUE = b".wh.", b".wh..wh..opq"
_COMPRESSED_OTHERWISE = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
# What debootstrap and mmdebstrap put into a root file system. A container has a /dev of its own.
_DEVICES = {
    b"dev/null": (1, 3), b"dev/zero": (1, 5), b"dev/full": (1, 7), b"dev/random": (1, 8),
    b"dev/urandom": (1, 9), b"dev/tty": (5, 0), b"dev/console": (5, 1), b"dev/ptmx": (5, 2),
}  # fmt: skip
# What a path of the layer is. A directory is implied when something lies in it and it has no entry itself.
_DIRECTORY, _IMPLIED, _FILE, _SPECIAL, _REMOVED = range(5)


class TooLarge(Exception):
    """A limit on bytes or files was crossed."""


@dataclass(frozen=True)
class LayerContents:
    """What a layer unpacks to."""

    diff_id: str  # digest of the tar itself
    size: int  # bytes that it takes on a file system
    files: int  # entries of any kind
    index: bytes = b""  # what of it matters beside other layers; see trees


def examine(pieces: Iterable[bytes], *, max_size: int, max_files: int) -> LayerContents:
    """Read one layer to its end, or until it crosses a limit. Raises TooLarge, and Invalid
    with half a sentence."""
    tree = _Tree(max_size=max_size, max_files=max_files)
    reader = Reader(entry=tree.add, note=tree.grow)
    digest = hashlib.sha256()
    for piece in _unpacked(iter(pieces)):
        digest.update(piece)
        reader.feed(piece)
    reader.finish()
    return LayerContents(f"sha256:{digest.hexdigest()}", tree.size, tree.files, tree.index())


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= BLOCK:
            break
    for magic, name in _COMPRESSED_OTHERWISE.items():
        if first.startswith(magic):
            raise Invalid(f"is compressed with {name}; only gzip is taken.")
    if first[:4] and 0x50 <= first[0] <= 0x5F and first[1:4] == b"\x2a\x4d\x18":
        raise Invalid("is compressed with zstd; only gzip is taken.")
    if not first.startswith(b"\x1f\x8b"):
        yield first
        yield from pieces
        return
    yield from _gunzipped(first, pieces)


def _gunzipped(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """One member after the other, as Go's reader takes them."""
    member = zlib.decompressobj(wbits=31)
    left: bytes | None = first
    try:
        while left is not None:
            while left:
                if member.eof:
                    member = zlib.decompressobj(wbits=31)
                if unpacked := member.decompress(left, _STEP):
                    yield unpacked
                left = member.unconsumed_tail or member.unused_data
            left = next(pieces, None)
    except zlib.error:
        raise Invalid("is not sound gzip.") from None
    if not member.eof:
        raise Invalid("ends in the middle of its gzip.")


class _Tree:
    """The tree that the entries of a layer make, without contents.

    Each path comes once, each entry lies in a directory, and each hard link names a file that came before it:
    then every order of unpacking makes the same tree. docker refuses to pull a layer that names a path twice.
    """

    def __init__(self, *, max_size: int, max_files: int) -> None:
        self._max_size = max_size
        self._max_files = max_files
        self.size = self.files = 0
        self._kinds: dict[int, int] = {}  # by the hash of the path: names alone could fill the memory
        self._index = Index()

    def index(self) -> bytes:
        """What of the layer matters beside other layers."""
        return self._index.packed()

    def grow(self, size: int) -> None:
        """Count bytes that an engine keeps."""
        self.size += size
        if self.size > self._max_size:
            raise TooLarge("bytes")

    def add(self, entry: Entry) -> None:
        """Take the next entry."""
        # A file system stores short targets of links in the link itself.
        long_link = entry.kind is Kind.LINK and len(entry.target) >= 60
        self._count(_CLUSTER if entry.kind is Kind.DIRECTORY or long_link else entry.size)
        parent, _, name = entry.path.rpartition(b"/")
        if entry.path:
            self._enter(parent)
        if name.startswith(_WHITEOUT):
            self._remove(entry, parent, name)
        elif entry.kind is Kind.DIRECTORY:
            self._add_directory(entry.path)
        else:
            self._claim(entry.path, self._kind(entry))

    def _count(self, size: int) -> None:
        self.files += 1
        if self.files > self._max_files:
            raise TooLarge("files")
        self.grow(rounded(size, _CLUSTER))

    def _kind(self, entry: Entry) -> int:
        """What the entry is, after noting what is special about it."""
        path = entry.path
        if entry.kind is Kind.LINK:
            self._index.link(path, entry.target)
        elif entry.kind is Kind.HARD_LINK:
            found = self._kinds.get(hash(entry.target))
            if found not in (_FILE, _SPECIAL):
                raise Invalid(
                    f"has the hard link {shown(path)} to what is no file in front of it in the layer."
                )
            if found == _SPECIAL:
                self._index.same(path, entry.target)
            return found
        elif entry.kind is Kind.FILE:
            if entry.size <= MAX_ACCOUNTS:
                return _FILE
            self._index.large(path)
        elif entry.kind is Kind.CHARACTER_DEVICE and _DEVICES.get(path) == entry.device:
            self._index.device(path)
        else:
            what = "a named pipe" if entry.kind is Kind.FIFO else "a device"
            raise Invalid(
                f"has {what}, {shown(path)}. Files, directories and links are taken, and in /dev the devices "
                "that every root file system has; make what else is needed when the program starts."
            )
        return _SPECIAL

    def _add_directory(self, path: bytes) -> None:
        if path in WATCHED:
            raise Invalid(f"has a directory where a file has to be: {shown(path)}.")
        key = hash(path)
        found = self._kinds.get(key)
        if found in (None, _IMPLIED):
            self._kinds[key] = _DIRECTORY
            if found == _IMPLIED:
                self._index.declared(path)
        else:
            raise Invalid(f"has {shown(path)} twice.")

    def _remove(self, entry: Entry, parent: bytes, name: bytes) -> None:
        """A whiteout: what lower layers have under the name is not there any more."""
        if entry.kind is not Kind.FILE or entry.size:
            raise Invalid(f"has the whiteout {shown(entry.path)}, which is no empty file.")
        if name == _OPAQUE:
            self._claim(entry.path, _REMOVED)
            return
        removed = name.removeprefix(_WHITEOUT)
        if removed in (b"", b".", b"..") or removed.startswith(_WHITEOUT):
            raise Invalid(f"has a whiteout of nothing: {shown(entry.path)}.")
        self._claim(parent + b"/" + removed if parent else removed, _REMOVED)

    def _claim(self, path: bytes, kind: int) -> None:
        key = hash(path)
        if key in self._kinds:
            raise Invalid(f"has {shown(path)} twice.")
        self._kinds[key] = kind

    def _enter(self, parent: bytes) -> None:
        """See to it that this is a directory, and that everything above it is."""
        while parent:
            key = hash(parent)
            found = self._kinds.get(key)
            if found in (_DIRECTORY, _IMPLIED):
                return
            if found is not None:
                raise Invalid(f"has something below {shown(parent)}, which is no directory in it.")
            above, _, name = parent.rpartition(b"/")
            if name.startswith(_WHITEOUT):
                raise Invalid(f"has a whiteout that is a directory: {shown(parent)}.")
            self._kinds[key] = _IMPLIED
            self._index.implied(parent)
            self._count(_CLUSTER)
            parent = above


def shown(path: bytes) -> str:
    """A path for a sentence."""
    return repr("/" + path[:200].decode(errors="replace"))
