"""Judges a layer by what it unpacks to, while it streams by: nothing is stored, and memory stays small.

A node's engine unpacks layers as root, onto its own disk, without any limit. So a layer is read here first as
the engine would read it: gzip (or nothing) around a tar, whatever its media type says. Sizes are those that
the engine would write. What two readers of tar could understand differently is refused.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gridapps.registry.manifests import Invalid

_BLOCK = 512
_CLUSTER = 4096  # bytes that a file system gives a file at least
_STEP = 1024**2  # bytes that are unpacked at once
_LARGEST_NOTE = 1024**2  # bytes of an extended header, as Go's reader of tar has it
_LARGEST_TAIL = 1024**2  # bytes of padding: the engine keeps what follows the archive in its memory
_ZEROS = bytes(_BLOCK)
_FILES, _LINKS = b"0\x00", b"1"
_WITHOUT_CONTENT = b"123456"  # links, devices, directories, named pipes
_LONG_NAMES, _NOTES = b"LK", b"xg"
_COMPRESSED_OTHERWISE = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class TooLarge(Exception):
    """A limit on bytes or files was crossed."""


@dataclass(frozen=True)
class Contents:
    """What a layer unpacks to."""

    diff_id: str  # digest of the tar itself
    size: int  # bytes that it takes on a file system
    files: int  # entries of any kind


def examine(pieces: Iterable[bytes], *, max_size: int, max_files: int) -> Contents:
    """Read one layer to its end, or until it crosses a limit. Raises TooLarge, and Invalid
    with half a sentence."""
    tar = _Tar(max_size=max_size, max_files=max_files)
    digest = hashlib.sha256()
    for piece in _unpacked(iter(pieces)):
        digest.update(piece)
        tar.feed(piece)
    tar.finish()
    return Contents(f"sha256:{digest.hexdigest()}", tar.size, tar.files)


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= _BLOCK:
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


class _Tar:
    """Walks over the headers of a tar that comes in pieces, and passes over the files' contents."""

    def __init__(self, *, max_size: int, max_files: int) -> None:
        self._max_size = max_size
        self._max_files = max_files
        self.size = self.files = 0
        self._buffer = bytearray()
        self._skip = 0  # bytes of content still to come
        self._note: bytes | None = None  # kind of the extended header whose content comes next
        self._note_size = 0
        self._name: bytes | None = None  # of the next entry, from an extended header
        self._link: bytes | None = None
        self._given: int | None = None  # size of the next entry, from an extended header
        self._ends = 0  # blocks of zeros
        self._tail = 0

    def feed(self, piece: bytes) -> None:
        at = 0
        while at < len(piece):
            if self._ends >= 2:
                self._pad(len(piece) - at)
                return
            if self._skip:
                step = min(self._skip, len(piece) - at)
                self._skip -= step
                at += step
                continue
            wanted = _rounded(self._note_size) if self._note else _BLOCK
            step = min(wanted - len(self._buffer), len(piece) - at)
            self._buffer += piece[at : at + step]
            at += step
            if len(self._buffer) == wanted:
                block, self._buffer = bytes(self._buffer), bytearray()
                if self._note:
                    self._take_note(block[: self._note_size])
                else:
                    self._header(block)

    def finish(self) -> None:
        if self._skip or self._buffer or self._note:
            raise Invalid("ends in the middle of a file.")

    def _pad(self, size: int) -> None:
        self._tail += size
        if self._tail > _LARGEST_TAIL:
            raise Invalid("goes on after the end of its archive.")

    def _header(self, block: bytes) -> None:
        if block == _ZEROS:
            self._ends += 1
            return
        if self._ends:
            raise Invalid("goes on after the end of its archive.")
        if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
            raise Invalid("is not a tar, or a broken one.")
        kind, size = block[156:157], _number(block[124:136])
        if kind in _LONG_NAMES or kind in _NOTES:
            if size > _LARGEST_NOTE:
                raise Invalid(f"has a header of more than {_LARGEST_NOTE} bytes.")
            self._note, self._note_size = kind, size
            self._grow(_BLOCK + size)
            if size == 0:
                self._take_note(b"")
            return
        self._entry(block, kind, self._given if self._given is not None else size)
        self._name = self._link = self._given = None

    def _entry(self, block: bytes, kind: bytes, size: int) -> None:
        name = self._name if self._name is not None else _name(block)
        if kind not in _FILES + _WITHOUT_CONTENT:
            what = "a sparse file" if kind == b"S" else f"an entry of the unknown type {kind!r}"
            raise Invalid(f"has {what}: {_shown(name)}.")
        self._stays_inside(name, what="a file")
        if kind == _LINKS:
            link = self._link if self._link is not None else _text(block[157:257])
            self._stays_inside(link, what="a hard link to")
        self.files += 1
        if self.files > self._max_files:
            raise TooLarge("files")
        if kind not in _WITHOUT_CONTENT:
            self._skip = _rounded(size)
            self._grow(_rounded(size, _CLUSTER))

    def _grow(self, size: int) -> None:
        self.size += size
        if self.size > self._max_size:
            raise TooLarge("bytes")

    def _stays_inside(self, name: bytes, *, what: str) -> None:
        if b".." in name.split(b"/") or b"\0" in name:
            raise Invalid(f"has {what} outside the image: {_shown(name)}.")

    def _take_note(self, content: bytes) -> None:
        kind, self._note, self._note_size = self._note, None, 0
        if kind == b"L":
            self._name = _text(content)
        elif kind == b"K":
            self._link = _text(content)
        else:
            for key, value in _records(content):
                self._record(key, value, everywhere=kind == b"g")

    def _record(self, key: bytes, value: bytes, *, everywhere: bool) -> None:
        if key.startswith(b"GNU.sparse"):
            raise Invalid("has a sparse file.")
        if key not in (b"path", b"linkpath", b"size"):
            return
        if everywhere:  # readers differ in how long these last
            raise Invalid(f"has a {key.decode()} for all files.")
        if key == b"path":
            self._name = value
        elif key == b"linkpath":
            self._link = value
        elif not value.isdigit() or len(value) > 18:
            raise Invalid("has a file without a size.")
        else:
            self._given = int(value)


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records "LENGTH KEY=VALUE" of an extended header."""
    while content:
        digits, space, _ = content[:20].partition(b" ")
        if not space or not digits.isdigit():
            raise Invalid("has an extended header that cannot be read.")
        size = int(digits)
        key, equals, value = content[len(digits) + 1 : size].partition(b"=")
        if size > len(content) or not equals or not value.endswith(b"\n"):
            raise Invalid("has an extended header that cannot be read.")
        yield key, value[:-1]
        content = content[size:]


def _number(field: bytes) -> int:
    """A number of a tar header: octal, or binary with the highest bit set."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40 or value >= 2**60:
            raise Invalid("has a file without a size.")
        return value
    digits = field.strip(b" \0")
    if digits and not all(0x30 <= digit <= 0x37 for digit in digits):
        raise Invalid("is not a tar, or a broken one.")
    return int(digits or b"0", 8)


def _name(block: bytes) -> bytes:
    """With the prefix that POSIX has; GNU's tar has other things there."""
    name, prefix = _text(block[:100]), _text(block[345:500])
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _shown(name: bytes) -> str:
    return repr(name[:200].decode(errors="replace"))


def _rounded(size: int, unit: int = _BLOCK) -> int:
    return -(-size // unit) * unit
