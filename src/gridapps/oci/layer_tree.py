"""The rules for the tree that the entries of one layer make: paths, sizes, and the kinds of files.

Each path occurs once, each entry lies in a directory, and each hard link names a file that precedes it. Then
every order of unpacking makes the same tree. docker refuses to pull a layer that names a path twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from gridapps.oci.archives import EntryKind, TarEntry, rounded
from gridapps.oci.documents import Invalid
from gridapps.oci.hidden_files import is_hidden
from gridapps.oci.trees import MAX_ACCOUNTS, WATCHED, Index, quote

_CLUSTER = 4096  # bytes: the least that a file system allocates for a file
_WHITEOUT, _OPAQUE = b".wh.", b".wh..wh..opq"
# The devices that debootstrap and mmdebstrap put into a root file system. A container has a /dev of its own.
_DEVICES = {
    b"dev/null": (1, 3), b"dev/zero": (1, 5), b"dev/full": (1, 7), b"dev/random": (1, 8),
    b"dev/urandom": (1, 9), b"dev/tty": (5, 0), b"dev/console": (5, 1), b"dev/ptmx": (5, 2),
}  # fmt: skip


class TooLarge(Exception):
    """The layer exceeds a limit on bytes or files."""


@dataclass
class _Usage:
    """What the entries take, and the limits on it. Raises TooLarge beyond them."""

    max_size: int
    max_files: int
    size: int = 0  # bytes
    files: int = 0

    def add_entry(self, size: int) -> None:
        """Count an entry and its content."""
        self.files += 1
        if self.files > self.max_files:
            raise TooLarge("files")
        self.add_bytes(rounded(size, _CLUSTER))

    def add_bytes(self, size: int) -> None:
        """Count bytes that an engine keeps."""
        self.size += size
        if self.size > self.max_size:
            raise TooLarge("bytes")


class _Is(Enum):
    """What a path of the layer is."""

    DIRECTORY = auto()
    IMPLIED = auto()  # a directory without an entry of its own
    FILE = auto()
    SPECIAL = auto()  # noted in the index
    REMOVED = auto()


class _Paths:
    """What each path is. The keys are hashes of paths: the names alone could fill the memory."""

    def __init__(self) -> None:
        self._kinds: dict[int, _Is] = {}

    def at(self, path: bytes) -> _Is | None:
        return self._kinds.get(hash(path))

    def claim(self, path: bytes, kind: _Is) -> None:
        """Enter a path. Raises Invalid when it is there already."""
        key = hash(path)
        if key in self._kinds:
            raise Invalid(f"has {quote(path)} twice.")
        self._kinds[key] = kind

    def declare(self, path: bytes) -> bool:
        """Enter a directory that has an entry. Returns whether it was implied before. Raises Invalid."""
        was_implied = self.at(path) is _Is.IMPLIED
        if was_implied:
            del self._kinds[hash(path)]
        self.claim(path, _Is.DIRECTORY)
        return was_implied

    def imply(self, path: bytes) -> Iterator[bytes]:
        """Enter the directory and those above it, and yield each that is new. Raises Invalid."""
        while path:
            found = self.at(path)
            if found in (_Is.DIRECTORY, _Is.IMPLIED):
                return
            if found is not None:
                raise Invalid(f"has entries below {quote(path)}, which is not a directory.")
            above, _, name = path.rpartition(b"/")
            if name.startswith(_WHITEOUT):
                raise Invalid(f"has a whiteout that is a directory: {quote(path)}.")
            self.claim(path, _Is.IMPLIED)
            yield path
            path = above


class LayerTree:
    """The tree of one layer, without contents of files."""

    def __init__(self, *, max_size: int, max_files: int) -> None:
        self._usage = _Usage(max_size, max_files)
        self._paths = _Paths()
        self._index = Index()

    @property
    def size(self) -> int:
        """Bytes on a file system."""
        return self._usage.size

    @property
    def files(self) -> int:
        """Entries of any kind."""
        return self._usage.files

    def index(self) -> bytes:
        """What matters when layers are combined; see `trees`."""
        return self._index.packed()

    def add(self, entry: TarEntry) -> None:
        """Add the next entry. Raises Invalid, TooLarge."""
        # A file system stores a short target in the symbolic link itself.
        long_link = entry.kind is EntryKind.LINK and len(entry.target) >= 60
        self._usage.add_bytes(entry.extended)
        self._usage.add_entry(_CLUSTER if entry.kind is EntryKind.DIRECTORY or long_link else entry.size)
        parent, _, name = entry.path.rpartition(b"/")
        if entry.path:
            for implied in self._paths.imply(parent):
                self._index.implied(implied)
                self._usage.add_entry(_CLUSTER)
        if name.startswith(_WHITEOUT):
            removed = _removed_by(entry, parent, name)
            self._paths.claim(removed, _Is.REMOVED)
            if is_hidden(removed):
                self._index.removed(removed)
        elif entry.kind is EntryKind.DIRECTORY:
            self._add_directory(entry.path)
        else:
            self._paths.claim(entry.path, self._kind_of(entry))

    def _add_directory(self, path: bytes) -> None:
        if path in WATCHED:
            raise Invalid(f"has a directory in place of a file: {quote(path)}.")
        if self._paths.declare(path):
            self._index.declared(path)

    def _kind_of(self, entry: TarEntry) -> _Is:
        """What the entry is, after noting in the index what is special about it."""
        path = entry.path
        if entry.kind is EntryKind.HARD_LINK:
            return self._kind_of_hard_link(path, entry.target)
        if entry.kind is EntryKind.FILE and entry.size <= MAX_ACCOUNTS:
            if is_hidden(path):
                self._index.hidden(path)
            return _Is.FILE
        if entry.kind is EntryKind.LINK:
            self._index.link(path, entry.target)
        elif entry.kind is EntryKind.FILE:
            self._index.large(path)
        elif entry.kind is EntryKind.CHARACTER_DEVICE and _DEVICES.get(path) == entry.device:
            self._index.device(path)
        else:
            what = "a named pipe" if entry.kind is EntryKind.FIFO else "a device"
            raise Invalid(
                f"has {what}, {quote(path)}. Files, directories and links are allowed, and in /dev the "
                "devices that every root file system has; create others when the program starts."
            )
        return _Is.SPECIAL

    def _kind_of_hard_link(self, path: bytes, target: bytes) -> _Is:
        found = self._paths.at(target)
        if found not in (_Is.FILE, _Is.SPECIAL):
            raise Invalid(
                f"has the hard link {quote(path)} to something that is not an earlier file of the layer."
            )
        if found is _Is.SPECIAL:
            self._index.same(path, target)
        elif is_hidden(path):
            self._index.hidden(path)
        return found


def _removed_by(entry: TarEntry, parent: bytes, name: bytes) -> bytes:
    """The path that a whiteout removes from lower layers; its own for an opaque directory. Raises Invalid."""
    if entry.kind is not EntryKind.FILE or entry.size:
        raise Invalid(f"has the whiteout {quote(entry.path)}, which is not an empty file.")
    if name == _OPAQUE:
        return entry.path
    removed = name.removeprefix(_WHITEOUT)
    if removed in (b"", b".", b"..") or removed.startswith(_WHITEOUT):
        raise Invalid(f"has a whiteout that removes nothing: {quote(entry.path)}.")
    return parent + b"/" + removed if parent else removed
