"""A strict reader of tar archives. It yields the entries and skips the contents of files.

Engines unpack with Go's archive/tar, scanners and backups with other readers, and these disagree about
unusual archives. This reader accepts the narrow form that every build tool writes: POSIX (ustar with extended
headers) or GNU (with long names). All readers understand that form alike.
docs/decisions/0090-what-a-layer-may-hold.md has the list. Sources: POSIX.1-2017 pax, GNU tar's manual,
archive/tar of Go 1.21.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from gridapps.oci.documents import Invalid

BLOCK = 512
LARGEST_EXTENDED = 1024**2  # bytes of an extended header: the limit of Go's reader
LARGEST_TAIL = 1024**2  # bytes of padding: the engine keeps what follows the archive in its memory
_ZEROS = bytes(BLOCK)
_POSIX, _GNU = b"ustar\x0000", b"ustar  \0"
_EXTENDED = {
    b"x": b"",
    b"L": b"path",
    b"K": b"linkpath",
}  # by type of extended header: the record it is
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_LARGEST_OCTAL = 8**11  # every tool writes smaller sizes in octal
_LARGEST_OWNER = 2**32 - 1
_TIME = re.compile(rb"-?[0-9]{1,12}(\.[0-9]{0,20})?")
# The extended attributes that build tools keep. Engines write any other attribute unchanged, including
# `trusted.overlay.redirect`, which redirects a directory of the image.
_ATTRIBUTE = re.compile(
    rb"security\.(capability|selinux)|system\.posix_acl_(access|default)|user\.(?!overlay\.)[ -~]{1,200}"
)
_IGNORED = re.compile(  # records without a meaning for an engine
    rb"(LIBARCHIVE\.[A-Za-z0-9._-]+|RHT\.security\.selinux|SCHILY\.(acl\.[a-z]+|fflags|dev|ino|nlink)|"
    rb"comment|charset|hdrcharset|uname|gname)"
)


class EntryKind(Enum):
    """What an entry creates, by the type in its header."""

    FILE = b"0"
    HARD_LINK = b"1"
    LINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One entry. Paths have no leading slash and no `.` component. The path of the root is empty."""

    kind: EntryKind
    path: bytes
    size: int  # bytes of content
    target: bytes = b""  # of symbolic links as written; of hard links a path like `path`
    device: tuple[int, int] = (0, 0)
    extended: int = 0  # bytes of the extended headers in front of it


def tar_entries(pieces: Iterable[bytes]) -> Iterator[TarEntry]:
    """The entries of an archive that arrives in pieces.

    Raises Invalid with the end of a sentence that begins with the layer's name, and whatever `pieces` raises.
    """
    stream = _Stream(pieces)
    extended = _Extended()
    while (block := stream.take(BLOCK, or_end=True)) and block != _ZEROS:
        form, kind = _form(block), block[156:157]
        if extended.records and extended.form != form:
            raise Invalid("has headers of two forms for one file.")
        if kind == b"g":
            raise Invalid("has a header for all files (type g); write one for each file.")
        if kind in _EXTENDED:
            extended.read(block, kind, form, stream)
            continue
        entry = _entry(block, form, extended)
        extended = _Extended()
        yield entry
        stream.skip(rounded(entry.size))
    if extended.records:
        raise _truncated()
    if block:
        _require_end(stream)


class _Stream:
    """Bytes that arrive in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = b""
        self._at = 0  # position in the piece

    def take(self, size: int, *, or_end: bool = False) -> bytes:
        """The next bytes; with `or_end` nothing when there are none left. Raises Invalid."""
        end = self._at + size
        if end <= len(self._piece):  # almost always
            start, self._at = self._at, end
            return self._piece[start:end]
        taken = bytearray()
        while len(taken) < size and self._has_more():
            part = self._piece[self._at : self._at + size - len(taken)]
            self._at += len(part)
            taken += part
        if len(taken) < size and not (or_end and not taken):
            raise _truncated()
        return bytes(taken)

    def skip(self, size: int) -> None:
        """Pass over the next bytes. Raises Invalid."""
        while size:
            if not self._has_more():
                raise _truncated()
            step = min(size, len(self._piece) - self._at)
            self._at += step
            size -= step

    def rest(self) -> Iterator[bytes]:
        """All bytes that are left."""
        while self._has_more():
            yield self._piece[self._at :] if self._at else self._piece
            self._at = len(self._piece)

    def _has_more(self) -> bool:
        while self._at == len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._piece, self._at = piece, 0
        return True


@dataclass(slots=True)
class _Extended:
    """The extended headers in front of one entry."""

    form: bytes = b""
    size: int = 0  # bytes
    records: dict[bytes, bytes] = field(default_factory=dict)

    def read(self, block: bytes, kind: bytes, form: bytes, stream: _Stream) -> None:
        """Take another extended header, whose content comes next in the stream. Raises Invalid."""
        if form != (_POSIX if kind == b"x" else _GNU):
            raise Invalid("has headers of two forms for one file.")
        key = _EXTENDED[kind]
        if (not key and self.records) or key in self.records:
            raise Invalid("has two extended headers for one file.")
        size = _size(block[124:136])
        if size > LARGEST_EXTENDED:
            raise Invalid(f"has a header of more than {LARGEST_EXTENDED} bytes.")
        content = stream.take(rounded(size))
        if not size or content[size:].strip(b"\0"):
            raise Invalid("has an extended header that cannot be read.")
        self.form = form
        self.size += BLOCK + size
        if key:
            self.records[key] = _text(content[:size])
            return
        for name, value in _records(content[:size]):
            if name in self.records:
                raise Invalid(f"has {_shown(name)} twice for one file.")
            self.records[name] = value


def _truncated() -> Invalid:
    return Invalid("ends in the middle of a file.")


def _require_end(stream: _Stream) -> None:
    """Raise Invalid unless what follows the first block of zeros ends the archive."""
    if stream.take(BLOCK, or_end=True).strip(b"\0"):
        raise Invalid("continues after the end of its archive.")
    size = 0
    for piece in stream.rest():
        size += len(piece)
        if size > LARGEST_TAIL or piece.count(0) != len(piece):
            raise Invalid("continues after the end of its archive.")


def rounded(size: int, unit: int = BLOCK) -> int:
    """The next multiple of the unit."""
    return -(-size // unit) * unit


def _form(block: bytes) -> bytes:
    """The form of a header, POSIX or GNU. Raises Invalid."""
    if _octal(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
        raise Invalid("is not a valid tar archive.")
    form = block[257:265]
    if form == _POSIX:
        if block[500:].strip(b"\0"):
            raise Invalid("has a header that is neither POSIX nor GNU.")
    elif form == _GNU:
        _octal(block[345:357]), _octal(block[357:369])  # times; Go reads anything else here as a name
        if block[369:].strip(b"\0"):
            what = "a sparse file" if block[386:495].strip(b"\0") else "a header of an unknown form"
            raise Invalid(f"has {what}.")
    else:
        raise Invalid("has a header that is neither POSIX nor GNU.")
    return form


def _entry(block: bytes, form: bytes, extended: _Extended) -> TarEntry:
    records = extended.records
    name = records.get(b"path", _name(block, form))
    kind = _kind(block[156:157], name)
    _number(block[100:108]), _number(block[136:148])  # mode and time
    if any(not 0 <= _number(field) < _LARGEST_OWNER for field in (block[108:116], block[116:124])):
        raise Invalid(f"has {_shown(name)} with an owner that no file system can name.")
    size = _content_size(block, records, name)
    if size and kind is not EntryKind.FILE:
        raise Invalid(f"has {_shown(name)}, which is not a file, with content.")
    path = _path(name, what="a file")
    if not path and kind is not EntryKind.DIRECTORY:
        raise Invalid("has a file without a name.")
    target = records.get(b"linkpath", _text(block[157:257]))
    if kind is EntryKind.HARD_LINK:
        target = _path(target, what="a hard link to")
    if kind in (EntryKind.HARD_LINK, EntryKind.LINK) and (not target or len(target) > 4095):
        raise Invalid(f"has the link {_shown(name)} without a target, or with one of more than 4095 bytes.")
    device = (0, 0)
    if kind in (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE):
        device = (_number(block[329:337]), _number(block[337:345]))
    return TarEntry(kind, path, size, target, device, extended.size)


def _content_size(block: bytes, records: dict[bytes, bytes], name: bytes) -> int:
    """The size in the header, or that of the extended header, which may only add what octal digits cannot
    hold."""
    size = _size(block[124:136])
    if b"size" not in records:
        return size
    given = int(records[b"size"])
    if size != given and (size or given < _LARGEST_OCTAL):
        raise Invalid(f"has {_shown(name)} with two sizes.")
    return given


def _kind(written: bytes, name: bytes) -> EntryKind:
    try:
        kind = EntryKind(b"0" if written == b"\0" else written)
    except ValueError:
        what = "a sparse file" if written == b"S" else f"an entry of the unknown type {_shown(written)}"
        raise Invalid(f"has {what}: {_shown(name)}.") from None
    if name.endswith(b"/") and kind is not EntryKind.DIRECTORY:
        raise Invalid(f"has {_shown(name)}, which is a directory by its name but not by its type.")
    return kind


def _path(name: bytes, *, what: str) -> bytes:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts or b"\0" in name:
        raise Invalid(f"has {what} outside the image: {_shown(name)}.")
    path = b"/".join(parts)
    if not name or len(path) > 4000 or any(len(part) > 255 for part in parts):
        raise Invalid(f"has {what} that no file system can name: {_shown(name)}.")
    return path


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records "LENGTH KEY=VALUE" of an extended header."""
    while content:
        digits, space, _ = content[:8].partition(b" ")
        if not space or not digits.isdigit() or digits.startswith(b"0"):
            raise Invalid("has an extended header that cannot be read.")
        size = int(digits)
        key, equals, value = content[len(digits) + 1 : size].partition(b"=")
        if size > len(content) or not equals or not value.endswith(b"\n"):
            raise Invalid("has an extended header that cannot be read.")
        _judge_record(key, value[:-1])
        yield key, value[:-1]
        content = content[size:]


def _judge_record(key: bytes, value: bytes) -> None:
    if key.startswith(b"GNU.sparse") or key == b"SCHILY.realsize":
        raise Invalid("has a sparse file.")
    if key == b"size" and (not value.isdigit() or len(value) > 18):
        raise Invalid("has a file without a size.")
    if not _is_sound(key, value):
        raise Invalid(f"has an extended header with {_shown(key)}, which is not supported: {_shown(value)}.")


def _is_sound(key: bytes, value: bytes) -> bool:
    """Whether the value of a record is one that all engines read in the same way."""
    if key == b"size":
        return True  # judged before
    if key in (b"path", b"linkpath"):
        return bool(value) and b"\0" not in value
    if key in (b"uid", b"gid"):
        return value.isdigit() and len(value) <= 10 and int(value) < _LARGEST_OWNER
    if key in (b"mtime", b"atime", b"ctime"):
        return bool(_TIME.fullmatch(value))
    if key.startswith(b"SCHILY.xattr."):
        return bool(_ATTRIBUTE.fullmatch(key.removeprefix(b"SCHILY.xattr.")))
    return bool(_IGNORED.fullmatch(key)) and b"\0" not in value


def _size(field: bytes) -> int:
    value = _number(field)
    if value < 0 or value >= 2**60 or (field[0] & 0x80 and value < _LARGEST_OCTAL):
        raise Invalid("has a file without a size.")
    return value


def _number(field: bytes) -> int:
    """A number of a tar header: octal, or binary with the highest bit set."""
    if not field[0] & 0x80:
        return _octal(field)
    if field[0] & 0x40:
        value = int.from_bytes(field, "big", signed=True)
    else:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    if not -(2**60) <= value < 2**60:
        raise Invalid("has a file without a size.")
    return value


def _octal(field: bytes) -> int:
    if (found := _OCTAL.fullmatch(field)) is None:
        raise Invalid("is not a valid tar archive.")
    return int(found[1] or b"0", 8)


def _name(block: bytes, form: bytes) -> bytes:
    name, prefix = _text(block[:100]), _text(block[345:500]) if form == _POSIX else b""
    return prefix + b"/" + name if prefix else name


def _text(field: bytes) -> bytes:
    text, _, rest = field.partition(b"\0")
    if rest.strip(b"\0"):
        raise Invalid(f"has a name with data after its end: {_shown(text)}.")
    return text


def _shown(name: bytes) -> str:
    return repr(name[:200].decode(errors="replace"))
