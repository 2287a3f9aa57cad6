"""Tars made by hand: headers that no library writes, sound by their checksums."""

import io
import tarfile
from typing import Any


def tar(*entries: tuple[str, dict[str, Any], bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of entries: name, attributes of its TarInfo, content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, attributes, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    size: int | bytes = 0,
    target: bytes = b"",
    gnu: bool = False,
    fields: dict[int, bytes] | None = None,
) -> bytes:
    """One header. `fields` are written over it, by their offset."""
    block = bytearray(512)
    number = size if isinstance(size, bytes) else b"%011o\0" % size
    form = b"ustar  \0" if gnu else b"ustar\x0000"
    parts = {
        0: name,
        100: b"0000644\0",
        108: b"0000000\0",
        116: b"0000000\0",
        124: number,
        136: b"%011o\0" % 0,
    }
    for at, part in {**parts, 156: kind, 157: target, 257: form, **(fields or {})}.items():
        block[at : at + len(part)] = part
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def entry(name: bytes, content: bytes = b"", **options: Any) -> bytes:
    """A header and its content, padded."""
    return header(name, **{"size": len(content), **options}) + content + bytes(-len(content) % 512)


def records(**values: bytes) -> bytes:
    """Records of an extended header; `__` in a name stands for a dot."""
    return b"".join(record(name.replace("__", ".").encode(), value) for name, value in values.items())


def record(key: bytes, value: bytes) -> bytes:
    """One record."""
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest) + 1
    while size != len(rest) + len(str(size)):
        size = len(rest) + len(str(size))
    return str(size).encode() + rest


def extended(content: bytes, *, kind: bytes = b"x") -> bytes:
    """An extended header of POSIX."""
    return entry(b"PaxHeaders.0/x", content, kind=kind)


def long_name(content: bytes, *, kind: bytes = b"L") -> bytes:
    """An extended header of GNU."""
    return entry(b"././@LongLink", content, kind=kind, gnu=True)


END = bytes(1024)
