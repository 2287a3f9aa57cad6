"""A strict reader of tar that comes in pieces: it names each entry, and passes over the files' contents.

Engines unpack with Go's archive/tar, scanners and backups with other readers. They differ in what they make
of unusual archives, so this reader takes one narrow form, which every tool that builds images writes: POSIX
(ustar with extended headers) or GNU (with long names). What it takes, all readers understand alike.
docs/decisions/0090-what-a-layer-may-hold.md has the list. Sources: POSIX.1-2017 pax, GNU tar's manual,
archive/tar of Go 1.21.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from gridapps.oci.documents import Invalid

BLOCK = 512
LARGEST_NOTE = 1024**2  # bytes of an extended header, as Go's reader has it
LARGEST_TAIL = 1024**2  # bytes of padding: the engine keeps what follows the archive in its memory
_ZEROS = bytes(BLOCK)
_POSIX, _GNU = b"ustar\x0000", b"ustar  \0"
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_LARGEST_OCTAL = 8**11  # a size below it is written in octal by every tool
_LARGEST_OWNER = 2**32 - 1
_TIME = re.compile(rb"-?[0-9]{1,12}(\.[0-9]{0,20})?")
# Attributes of files: those that build tools keep. Engines write any other one as it stands, also
# `trusted.overlay.redirect`, which moves a directory of the image elsewhere.
_ATTRIBUTE = re.compile(
    rb"security\.(capability|selinux)|system\.posix_acl_(access|default)|user\.(?!overlay\.)[ -~]{1,200}"
)
_IGNORED = re.compile(  # records without a meaning for an engine
    rb"(LIBARCHIVE\.[A-Za-z0-9._-]+|RHT\.security\.selinux|SCHILY\.(acl\.[a-z]+|fflags|dev|ino|nlink)|"
    rb"comment|charset|hdrcharset|uname|gname)"
)


class Kind(Enum):
    """What an entry makes, by the type in its header."""

    FILE = b"0"
    HARD_LINK = b"1"
    LINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. Paths have no leading slash and no `.` in them; the root's is empty."""

    kind: Kind
    path: bytes
    size: int  # bytes of content
    target: bytes = b""  # of links as written; of hard links a path like `path`
    device: tuple[int, int] = (0, 0)


class Reader:
    """Walks over the headers of one archive. `entry` is called for each entry, `note` with the bytes of each
    extended header. Every method raises Invalid with half a sentence."""

    def __init__(self, *, entry: Callable[[Entry], None], note: Callable[[int], None]) -> None:
        self._entry = entry
        self._note = note
        self._buffer = bytearray()
        self._skip = 0  # bytes of content still to come
        self._coming: bytes | None = None  # kind of the extended header whose content comes next
        self._length = 0  # of it
        self._form = b""  # the form of the extended headers in front of the next entry
        self._pending: dict[bytes, bytes] = {}  # their records
        self._ends = 0  # blocks of zeros
        self._tail = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        at = 0
        while at < len(piece):
            if self._ends >= 2:
                self._pad(piece[at:] if at else piece)
                return
            if self._skip:
                step = min(self._skip, len(piece) - at)
                self._skip -= step
                at += step
                continue
            wanted = rounded(self._length) if self._coming else BLOCK
            step = min(wanted - len(self._buffer), len(piece) - at)
            self._buffer += piece[at : at + step]
            at += step
            if len(self._buffer) == wanted:
                block, self._buffer = bytes(self._buffer), bytearray()
                if self._coming:
                    self._take_note(block)
                else:
                    self._header(block)

    def finish(self) -> None:
        """Nothing comes any more."""
        if self._skip or self._buffer or self._coming or self._pending:
            raise Invalid("ends in the middle of a file.")

    def _pad(self, piece: bytes) -> None:
        self._tail += len(piece)
        if self._tail > LARGEST_TAIL or piece.count(0) != len(piece):
            raise Invalid("goes on after the end of its archive.")

    def _header(self, block: bytes) -> None:
        if block == _ZEROS:
            if self._pending:
                raise Invalid("ends in the middle of a file.")
            self._ends += 1
            return
        if self._ends:
            raise Invalid("goes on after the end of its archive.")
        form = _form(block)
        kind = block[156:157]
        if kind in (b"x", b"L", b"K"):
            self._announce(block, kind, form)
        elif kind == b"g":
            raise Invalid("has a header for all files (type g); write one for each file.")
        else:
            if self._pending and self._form != form:
                raise Invalid("has headers of two forms for one file.")
            records, self._pending = self._pending, {}
            entry = _entry(block, form, records)
            self._skip = rounded(entry.size)
            self._entry(entry)

    def _announce(self, block: bytes, kind: bytes, form: bytes) -> None:
        """An extended header begins."""
        if form != (_POSIX if kind == b"x" else _GNU) or (self._pending and self._form != form):
            raise Invalid("has headers of two forms for one file.")
        key = {b"x": b"", b"L": b"path", b"K": b"linkpath"}[kind]
        if (not key and self._pending) or key in self._pending:
            raise Invalid("has two extended headers for one file.")
        size = _size(block[124:136])
        if size > LARGEST_NOTE:
            raise Invalid(f"has a header of more than {LARGEST_NOTE} bytes.")
        if not size:
            raise Invalid("has an extended header that cannot be read.")
        self._coming, self._length, self._form = kind, size, form
        self._note(BLOCK + size)

    def _take_note(self, block: bytes) -> None:
        kind, self._coming = self._coming, None
        content = block[: self._length]
        if block[self._length :].strip(b"\0"):
            raise Invalid("has an extended header that cannot be read.")
        if kind == b"x":
            for key, value in _records(content):
                if key in self._pending:
                    raise Invalid(f"has {_shown(key)} twice for one file.")
                self._pending[key] = value
        else:
            self._pending[b"path" if kind == b"L" else b"linkpath"] = _text(content)


def rounded(size: int, unit: int = BLOCK) -> int:
    """The next multiple of the unit."""
    return -(-size // unit) * unit


def _form(block: bytes) -> bytes:
    """The form of a sound header."""
    if _octal(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
        raise Invalid("is not a tar, or a broken one.")
    form = block[257:265]
    if form == _POSIX:
        if block[500:].strip(b"\0"):
            raise Invalid("has a header of another form than POSIX and GNU.")
    elif form == _GNU:
        _octal(block[345:357]), _octal(block[357:369])  # times, which Go takes for a name otherwise
        if block[369:].strip(b"\0"):
            what = "a sparse file" if block[386:495].strip(b"\0") else "a header of an unknown form"
            raise Invalid(f"has {what}.")
    else:
        raise Invalid("has a header of another form than POSIX and GNU.")
    return form


def _entry(block: bytes, form: bytes, records: dict[bytes, bytes]) -> Entry:
    name = records.get(b"path", _name(block, form))
    kind = _kind(block[156:157], name)
    size = _size(block[124:136])
    _number(block[100:108]), _number(block[136:148])  # mode and time
    if any(not 0 <= _number(field) < _LARGEST_OWNER for field in (block[108:116], block[116:124])):
        raise Invalid(f"has {_shown(name)} with an owner that no file system can name.")
    if b"size" in records:
        given = int(records[b"size"])
        if size != given and (size or given < _LARGEST_OCTAL):
            raise Invalid(f"has {_shown(name)} with two sizes.")
        size = given
    if size and kind is not Kind.FILE:
        raise Invalid(f"has {_shown(name)}, which is no file, with a content.")
    path = _path(name, what="a file")
    if not path and kind is not Kind.DIRECTORY:
        raise Invalid("has a file without a name.")
    target = records.get(b"linkpath", _text(block[157:257]))
    if kind is Kind.HARD_LINK:
        target = _path(target, what="a hard link to")
    if kind in (Kind.HARD_LINK, Kind.LINK) and (not target or len(target) > 4095):
        raise Invalid(f"has the link {_shown(name)} without a target, or with one of more than 4095 bytes.")
    device = (0, 0)
    if kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE):
        device = (_number(block[329:337]), _number(block[337:345]))
    return Entry(kind, path, size, target, device)


def _kind(written: bytes, name: bytes) -> Kind:
    try:
        kind = Kind(b"0" if written == b"\0" else written)
    except ValueError:
        what = "a sparse file" if written == b"S" else f"an entry of the unknown type {_shown(written)}"
        raise Invalid(f"has {what}: {_shown(name)}.") from None
    if name.endswith(b"/") and kind is not Kind.DIRECTORY:
        raise Invalid(f"has {_shown(name)}, which is a directory by its name and none by its type.")
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
    if key in (b"path", b"linkpath"):
        sound = bool(value) and b"\0" not in value
    elif key == b"size":
        if not value.isdigit() or len(value) > 18:
            raise Invalid("has a file without a size.")
        sound = True
    elif key in (b"uid", b"gid"):
        sound = value.isdigit() and len(value) <= 10 and int(value) < _LARGEST_OWNER
    elif key in (b"mtime", b"atime", b"ctime"):
        sound = bool(_TIME.fullmatch(value))
    elif key.startswith(b"SCHILY.xattr."):
        sound = bool(_ATTRIBUTE.fullmatch(key.removeprefix(b"SCHILY.xattr.")))
    else:
        sound = bool(_IGNORED.fullmatch(key)) and b"\0" not in value
    if not sound:
        raise Invalid(f"has an extended header with {_shown(key)}, which is not taken: {_shown(value)}.")


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
        raise Invalid("is not a tar, or a broken one.")
    return int(found[1] or b"0", 8)


def _name(block: bytes, form: bytes) -> bytes:
    name, prefix = _text(block[:100]), _text(block[345:500]) if form == _POSIX else b""
    return prefix + b"/" + name if prefix else name


def _text(field: bytes) -> bytes:
    text, _, rest = field.partition(b"\0")
    if rest.strip(b"\0"):
        raise Invalid(f"has a name with something behind its end: {_shown(text)}.")
    return text


def _shown(name: bytes) -> str:
    return repr(name[:200].decode(errors="replace"))
