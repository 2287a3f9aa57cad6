"""Archives that are almost valid: a few assumptions that readers of tar make do not hold."""

from hypothesis import strategies as st

from tests.registry.tars import END, header, record

SOUND_NAMES = st.sampled_from(
    [b"a", b"./b", b"/c", b"d/e/f", b"d/g", b"etc/passwd", b".wh.h", b"d/.wh.i", b"d/.wh..wh..opq", b"n" * 99,
     b"p/" * 40 + b"q", "ä".encode(), b"\xe4", b"j//k"]
)  # fmt: skip
NAMES = SOUND_NAMES | st.sampled_from(
    [
        b"a/",
        b"a/b",
        b"a/b/c",
        b".",
        b"./",
        b"..",
        b"a/../b",
        b".wh..wh.plnk",
        b".wh.a/b",
        b"a\0b",
        b"dev/null",
    ]
)
SOUND_KINDS = st.sampled_from([b"0", b"0", b"5", b"2", b"\0"])
KINDS = SOUND_KINDS | st.sampled_from([b"1", b"1", b"3", b"6", b"7", b"S", b"g", b"D"])
SIZES = st.sampled_from([0, 0, 1, 511, 513, 5000, 9000])
NUMBERS = st.sampled_from(
    [b"00000000000\0", b"00000011610\0", b"11610      \0", b"      11610 ", b"0000000000\0" + b"7", bytes(12),
     b"\x80" + bytes(9) + b"\x13\x88", b"\xff" * 12, b"\x80" + (2**33).to_bytes(11, "big"), b"-0000000001\0"]
)  # fmt: skip
SOUND_RECORDS = st.sampled_from(
    [(b"mtime", b"-1.5"), (b"uid", b"70000"), (b"comment", b"x"), (b"SCHILY.xattr.user.a", b"b"),
     (b"path", b"long/" * 30 + b"x"), (b"uname", b"me"), (b"hdrcharset", b"BINARY")]
)  # fmt: skip
KEYS = st.sampled_from(
    [b"path", b"linkpath", b"size", b"size", b"mtime", b"uid", b"comment", b"GNU.sparse.size",
     b"SCHILY.xattr.user.a", b"SCHILY.xattr.trusted.overlay.opaque", b"SCHILY.realsize", b"hdrcharset"]
)  # fmt: skip
VALUES = NAMES | st.sampled_from([b"", b"0", b"1", b"5000", b"05000", b"-1", b"+1", b"1.5", b"8589934592"])


@st.composite
def sound_entries(draw: st.DrawFn) -> bytes:
    """A valid header with content, and perhaps an extended header in front of it."""
    gnu, kind, name = draw(st.booleans()), draw(SOUND_KINDS), draw(SOUND_NAMES)
    size = draw(SIZES) if kind in b"0\0" and b".wh." not in name else 0
    front = b""
    if draw(st.booleans()):
        front = _long(b"L", name + b"\0") if gnu else _extended(b"x", [draw(SOUND_RECORDS)])
    block = header(name, kind=kind, size=size, gnu=gnu, target=draw(NAMES) if kind == b"2" else b"")
    return front + block + _content(draw, size)


@st.composite
def wild_entries(draw: st.DrawFn) -> bytes:
    """The same, but any field may be wrong."""
    gnu = draw(st.booleans())
    parts = []
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.booleans()):
            kind = draw(st.sampled_from([b"L", b"K"]))
            parts.append(_long(kind, draw(NAMES) + b"\0" * draw(st.integers(0, 2)), gnu=draw(st.booleans())))
        else:
            pairs = draw(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=2))
            parts.append(_extended(draw(st.sampled_from([b"x", b"x", b"g"])), pairs))
    kind = draw(KINDS)
    size = draw(SIZES)
    target = draw(NAMES) if kind in b"12" else b""
    block = bytearray(header(draw(NAMES), kind=kind, size=size, gnu=gnu, target=target))
    if draw(st.booleans()):
        block = _spoilt(draw, block)
    return b"".join(parts) + bytes(block) + _content(draw, size)


def _content(draw: st.DrawFn, size: int) -> bytes:
    return draw(st.sampled_from([b"x", b"\0"])) * size + bytes(-size % 512)


def _extended(kind: bytes, pairs: list[tuple[bytes, bytes]]) -> bytes:
    content = b"".join(record(key, value) for key, value in pairs)
    return header(b"PaxHeaders/x", kind=kind, size=len(content)) + content + bytes(-len(content) % 512)


def _long(kind: bytes, content: bytes, *, gnu: bool = True) -> bytes:
    head = header(b"././@LongLink", kind=kind, size=len(content), gnu=gnu)
    return head + content + bytes(-len(content) % 512)


def _spoilt(draw: st.DrawFn, block: bytearray) -> bytearray:
    """The block with a byte or number changed, and a matching checksum."""
    if draw(st.booleans()):
        at = draw(st.sampled_from([100, 108, 124, 136, 345, 483]))
        value = draw(NUMBERS)[: 12 if at >= 124 else 8]
    else:
        at, value = draw(st.integers(0, 511)), draw(st.binary(min_size=1, max_size=3))
    block[at : at + len(value)] = value[: 512 - at]
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return block


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """A whole archive: mostly valid entries, and perhaps a wild one among them."""
    parts = draw(st.lists(sound_entries(), max_size=3))
    if draw(st.booleans()) or not parts:
        parts.insert(draw(st.integers(0, len(parts))), draw(wild_entries()))
    end = draw(st.sampled_from([END, END, END, b"", bytes(512), END + bytes(9000)]))
    return b"".join(parts) + end
