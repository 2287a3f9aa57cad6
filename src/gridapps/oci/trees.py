"""The combined tree of an image's layers, as far as an engine reads it: /etc/passwd and /etc/group.

Whenever an engine starts a container, it reads both files as root and into memory, even if the user is given
by number. The files, and every directory above them, may be symbolic links. So each layer has an index of its
links, large files and devices. All paths that any layer offers are followed through the indexes of all
layers. Whiteouts and replaced files are ignored, because they only remove paths.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gridapps.oci.documents import Invalid

WATCHED = (b"etc/passwd", b"etc/group")
MAX_ACCOUNTS = 1024**2  # bytes of each
MAX_INDEX = 16 * 1024**2  # bytes of the index of one layer
MAX_INDEXES = 16 * 1024**2  # bytes of the indexes of one image
MAX_STEPS = 64  # links to follow: each step searches all indexes
MAX_HIDDEN = 1000  # records of hidden files, and of removed ones, in the index of one layer
LINK, LARGE, HIDDEN, REMOVED = b"L", b"F", b"H", b"W"
_DEVICE, _IMPLIED = b"D", b"I"
_MOUNTED = {
    b"dev",
    b"proc",
    b"sys",
    b"grid",
    b"grid-scratch",
    b"input",
    b"tmp",
}  # mounted over the image in a container
_WHAT = {LARGE: f"a file of more than {MAX_ACCOUNTS} bytes", _DEVICE: "a device"}
# Two zero bytes begin a record. They occur nowhere else: what precedes a zero byte is never empty.
RECORD = re.compile(rb"\0\0([^\0]+)\0(.)([^\0]*)", re.DOTALL)


@dataclass
class Index:
    """What is special in one layer, collected while it is read. Raises Invalid if it becomes too large."""

    _records: dict[bytes, bytes] = field(default_factory=dict)  # by path: kind and target
    _size: int = 0
    _hidden: int = 0

    def link(self, path: bytes, target: bytes) -> None:
        """A symbolic link."""
        self._note(path, LINK + target)

    def large(self, path: bytes) -> None:
        """A file that is too large for an engine to read."""
        self._note(path, LARGE)

    def device(self, path: bytes) -> None:
        """A device."""
        self._note(path, _DEVICE)

    def same(self, path: bytes, target: bytes) -> None:
        """A hard link to something special."""
        self._note(path, self._records[target])

    def hidden(self, path: bytes) -> None:
        """A file below a directory where a container has other files. Only the first are noted."""
        self._note_some(path, HIDDEN)

    def removed(self, path: bytes) -> None:
        """A whiteout of such a file or directory. Only the first are noted."""
        self._note_some(path, REMOVED)

    def implied(self, path: bytes) -> None:
        """A directory that has no entry of its own."""
        self._note(path, _IMPLIED)

    def declared(self, path: bytes) -> None:
        """An implied directory turned out to have an entry."""
        del self._records[path]

    def packed(self) -> bytes:
        """The index as it is stored."""
        return zlib.compress(
            b"".join(b"\0\0" + path + b"\0" + record for path, record in self._records.items()), level=1
        )

    def _note_some(self, path: bytes, record: bytes) -> None:
        self._hidden += 1
        if self._hidden <= MAX_HIDDEN:
            self._note(path, record)

    def _note(self, path: bytes, record: bytes) -> None:
        self._records[path] = record
        self._size += len(path) + len(record) + 3
        if self._size > MAX_INDEX:
            raise Invalid(f"has more links and large files than fit into {MAX_INDEX} bytes by their names.")


def judge_indexes(packed: Sequence[bytes]) -> None:
    """Judge the indexes of an image's layers, the lowest first. Raises Invalid."""
    indexes = list(unpacked(packed))
    _judge_places(indexes)
    for path in WATCHED:
        _follow(path, indexes)


def unpacked(packed: Sequence[bytes]) -> Iterator[bytes]:
    """The indexes as they were collected. Raises Invalid if they are too large together."""
    left = MAX_INDEXES
    for each in packed:
        index = zlib.decompressobj().decompress(each, left + 1)
        left -= len(index)
        if left < 0:
            raise Invalid("The layers of the image have too many links and large files together.")
        yield index


def _judge_places(indexes: Sequence[bytes]) -> None:
    """Refuse a layer that writes through a link of a lower one: engines differ in where that leads."""
    above: dict[bytes, int] = {}
    for number in range(len(indexes), 0, -1):
        for record in RECORD.finditer(indexes[number - 1]):
            path, kind = record[1], record[2]
            if kind == _IMPLIED:
                above[path] = number
            elif kind == LINK and path in above:
                raise Invalid(
                    f"Layer {above[path]} has files below {quote(path)}, which is a link in layer {number}: "
                    "engines differ in where these files go. Put them where the link leads."
                )


def _follow(path: bytes, indexes: Sequence[bytes]) -> None:
    """Follow all paths that a reader of this path could take."""
    todo = [(b"", tuple(path.split(b"/")))]
    seen = set(todo)
    while todo:
        base, rest = todo.pop()
        for way in _next(path, base, rest, indexes):
            if way not in seen:
                seen.add(way)
                todo.append(way)
        if len(seen) > MAX_STEPS:
            raise Invalid(f"{quote(path)} of the image leads through too many links; make it a file.")


def _next(
    path: bytes, base: bytes, rest: tuple[bytes, ...], indexes: Sequence[bytes]
) -> Iterator[tuple[bytes, tuple[bytes, ...]]]:
    """Where a reader of `path` in the directory `base` can get with the first component of `rest`."""
    if not rest:
        return
    name, rest = rest[0], rest[1:]
    if name in (b"", b"."):
        yield base, rest
        return
    if name == b"..":
        yield base.rpartition(b"/")[0], rest
        return
    place = base + b"/" + name if base else name
    if place in _MOUNTED:
        # runc reads the files again inside the container. A device or pipe there would block it.
        raise Invalid(
            f"{quote(path)} of the image leads below {quote(place)}, where a container has other files "
            f"than the image. Engines read it whole: make it a file of at most {MAX_ACCOUNTS} bytes."
        )
    yield place, rest
    for number, index in enumerate(indexes, 1):
        kind, target = _look_up(place, index)
        if kind == LINK:
            yield b"" if target.startswith(b"/") else base, (*target.split(b"/"), *rest)
        elif kind in _WHAT and not set(rest) - {b"", b"."}:
            raise Invalid(
                f"{quote(path)} of the image is {_WHAT[kind]}, {quote(place)} in layer {number}. Engines "
                f"read it whole: make it a file of at most {MAX_ACCOUNTS} bytes."
            )


def _look_up(path: bytes, index: bytes) -> tuple[bytes, bytes]:
    start = index.find(b"\0\0" + path + b"\0")
    found = RECORD.match(index, start) if start >= 0 else None
    return (found[2], found[3]) if found else (b"", b"")


def quote(path: bytes) -> str:
    """A path for a sentence."""
    return repr("/" + path[:200].decode(errors="replace"))
