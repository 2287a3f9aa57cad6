"""Archives that two readers of tar could understand differently, and what else no engine should unpack."""

import gzip
import io
import tarfile
from typing import Any

import pytest

from gridapps.oci import archives
from gridapps.oci.documents import Invalid
from gridapps.oci.layer_contents import LayerContents, examine_layer
from tests.registry.tars import END, entry, extended, header, long_name, record, records, tar

MIB = 1024**2
BIG = 64 * MIB
FILE = entry(b"file", b"content")


def examined(*parts: bytes) -> LayerContents:
    content = b"".join(parts) + END
    return examine_layer(
        (content[at : at + 700] for at in range(0, len(content), 700)), max_size=MIB, max_files=100
    )


def refusal(*parts: bytes) -> str:
    with pytest.raises(Invalid) as raised:
        examined(*parts)
    return str(raised.value)


# Each was judged as less than 1 MB and unpacked to a sparse file of 64 MB and more.
HIDDEN = {
    "a directory by its name that is a file by its type": [
        entry(b"a/", kind=b"\0", size=BIG),
    ],
    "two extended headers": [
        extended(records(size=b"%d" % BIG)),
        extended(records(path=b"a")),
        entry(b"a"),
    ],
    "an extended header and one for all files": [
        extended(records(size=b"0")),
        extended(records(comment=b"Go forgets the first one"), kind=b"g"),
        header(b"a", size=BIG),
    ],
    "a size that only one reader takes": [extended(records(size=b"%d" % BIG)), entry(b"a")],
    "another size than the header's": [extended(records(size=b"0")), entry(b"a", b"content")],
    "the size twice": [extended(records(size=b"0") + records(size=b"%d" % BIG)), entry(b"a")],
    "a hard link with a content": [FILE, header(b"a", kind=b"1", target=b"file", size=BIG)],
    "a link with a content": [header(b"a", kind=b"2", target=b"file", size=BIG)],
    "a directory with a content": [header(b"a", kind=b"5", size=BIG)],
    "two long names": [long_name(b"b\0"), long_name(b"c\0"), entry(b"a", gnu=True)],
    "a long name of GNU before a header of POSIX": [long_name(b"b\0"), entry(b"a")],
    "a header of POSIX before one of GNU": [extended(records(path=b"b")), entry(b"a", gnu=True)],
}


@pytest.mark.parametrize("parts", HIDDEN.values(), ids=HIDDEN.keys())
def test_what_readers_understand_differently_is_refused(parts: list[bytes]) -> None:
    assert refusal(*parts)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([extended(records(path=b"a"), kind=b"g"), FILE], "a header for all files"),
        ([extended(records(path=b"a"))], "in the middle of a file"),
        ([long_name(b"b\0junk\0"), entry(b"a", gnu=True)], "data after its end"),
        ([entry(b"a\0b")], "data after its end"),
        ([extended(record(b"GNU.sparse.map", b"0,1")), FILE], "a sparse file"),
        ([extended(record(b"GNU.sparse.name", b"x")), FILE], "a sparse file"),
        ([extended(record(b"SCHILY.realsize", b"99")), FILE], "a sparse file"),
        ([header(b"a", kind=b"S", gnu=True)], "a sparse file"),
        ([header(b"a", gnu=True, fields={386: b"00000000001\0"})], "a sparse file"),
        ([header(b"a", gnu=True, fields={345: b"a/name/of/Go"})], "is not a valid tar"),
        ([header(b"a", gnu=True, fields={505: b"\1"})], "a header of an unknown form"),
        ([header(b"a", fields={508: b"tar\0"})], "neither POSIX nor GNU"),
        ([header(b"a", fields={257: bytes(8)})], "neither POSIX nor GNU"),
        ([header(b"a", kind=b"7")], "unknown type"),
        ([header(b"a", kind=b"V")], "unknown type"),
        ([header(b"a", size=b"\x80" + bytes(10) + b"\1")], "without a size"),
        ([header(b"a", size=b"\xff" * 12)], "without a size"),
        ([header(b"a", size=b"-0000000001\0")], "is not a valid tar"),
        ([header(b"a", size=b"0\0000000001\0")], "is not a valid tar"),
        ([header(b"a", fields={108: b"\xff" * 8})], "with an owner"),
        ([extended(records(size=b"-1")), entry(b"a")], "without a size"),
        ([extended(records(path=b"")), entry(b"a")], "'path', which is not supported"),
        ([extended(record(b"path", b"a\0b")), entry(b"a")], "'path', which is not supported"),
        ([extended(records(mtime=b"yesterday")), entry(b"a")], "'mtime', which is not supported"),
        ([extended(records(uid=b"4294967295")), entry(b"a")], "'uid', which is not supported"),
        ([extended(records(VENDOR__x=b"1")), entry(b"a")], "'VENDOR.x', which is not supported"),
        ([extended(record(b"SCHILY.xattr.trusted.overlay.redirect", b"/x")), header(b"etc", kind=b"5")],
         "'SCHILY.xattr.trusted.overlay.redirect', which is not supported"),
        ([extended(record(b"SCHILY.xattr.trusted.overlay.opaque", b"y")), header(b"etc", kind=b"5")],
         "which is not supported"),
        ([extended(record(b"SCHILY.xattr.user.overlay.redirect", b"/x")), header(b"etc", kind=b"5")],
         "which is not supported"),
        ([extended(b"8 a=bc\n"), entry(b"a")], "cannot be read"),
        ([extended(b"08 a=bc\n"), entry(b"a")], "cannot be read"),
        ([extended(b""), entry(b"a")], "cannot be read"),
        ([entry(b"")], "no file system can name"),
        ([entry(b"./")], "a directory by its name"),
        ([extended(record(b"path", b"x" * 256)), entry(b"a")], "no file system can name"),
        ([extended(record(b"path", b"x/" * 2500 + b"y")), entry(b"a")], "no file system can name"),
        ([header(b"a", kind=b"2")], "without a target"),
        ([FILE, FILE], "has '/file' twice"),
        ([FILE, entry(b"./file")], "has '/file' twice"),
        ([FILE, header(b"file", kind=b"5")], "has '/file' twice"),
        ([header(b"d", kind=b"5"), header(b"./d/", kind=b"5")], "has '/d' twice"),
        ([header(b"./", kind=b"5"), header(b"/", kind=b"5")], "has '/' twice"),
        ([header(b"a", kind=b"5"), entry(b"a")], "has '/a' twice"),
        ([FILE, entry(b"file/below")], "entries below '/file'"),
        ([header(b"a", kind=b"2", target=b"/etc"), entry(b"a/passwd")], "entries below '/a'"),
        ([header(b"a", kind=b"1", target=b"file"), FILE], "not an earlier file"),
        ([header(b"a", kind=b"1", target=b"a")], "not an earlier file"),
        ([header(b"d", kind=b"5"), header(b"a", kind=b"1", target=b"d")], "not an earlier file"),
        ([entry(b".wh.")], "a whiteout that removes nothing"),
        ([entry(b"a/.wh..")], "a whiteout that removes nothing"),
        ([entry(b"a/.wh...")], "a whiteout that removes nothing"),
        ([entry(b".wh..wh.plnk")], "a whiteout that removes nothing"),
        ([entry(b".wh.a", b"x")], "not an empty file"),
        ([header(b".wh.a", kind=b"5")], "not an empty file"),
        ([header(b".wh.a", kind=b"2", target=b"x")], "not an empty file"),
        ([entry(b".wh.a/b")], "a whiteout that is a directory"),
        ([entry(b".wh.file"), FILE], "has '/file' twice"),
        ([entry(b"a/.wh..wh..opq"), entry(b"a/.wh..wh..opq")], "has '/a/.wh..wh..opq' twice"),
        ([entry(b".wh.a"), entry(b"a/b")], "entries below '/a'"),
        ([header(b"pipe", kind=b"6")], "a named pipe, '/pipe'"),
        ([header(b"dev/pipe", kind=b"6")], "a named pipe"),
        ([header(b"zero", kind=b"3", fields={329: b"0000001\0", 337: b"0000005\0"})], "a device, '/zero'"),
        ([header(b"dev/sda", kind=b"4", fields={329: b"0000010\0"})], "a device, '/dev/sda'"),
        ([header(b"dev/null", kind=b"3", fields={329: b"0000001\0", 337: b"0000001\0"})], "a device"),
        ([header(b"dev/null", kind=b"4", fields={329: b"0000001\0", 337: b"0000003\0"})], "a device"),
        ([header(b"x/dev/null", kind=b"3", fields={329: b"0000001\0", 337: b"0000003\0"})], "a device"),
        ([header(b"etc/passwd", kind=b"5")], "a directory in place of a file"),
    ],
)  # fmt: skip
def test_what_no_layer_holds_is_refused(parts: list[bytes], words: str) -> None:
    assert words in refusal(*parts)


@pytest.mark.parametrize("tail", [b"x", bytes(512) + entry(b"more"), bytes(MIB + 1)])
def test_what_follows_the_end_is_refused(tail: bytes) -> None:
    assert "continues after the end" in refusal(FILE, END, tail)


def test_members_of_gzip_are_one_archive() -> None:
    """Whole archives in a row are not: one reader stops where the other goes on."""
    members = gzip.compress(FILE + END) + gzip.compress(entry(b"other") + END)
    with pytest.raises(Invalid, match="continues after the end"):
        examine_layer([members], max_size=MIB, max_files=10)


@pytest.mark.parametrize(
    "parts",
    [
        [header(b"./", kind=b"5"), header(b"./etc/", kind=b"5"), entry(b"./etc/passwd", b"root:x:0:0::/:")],
        [header(b"/", kind=b"5"), header(b"/etc/", kind=b"5"), entry(b"/etc/motd", b"x")],
        [FILE, header(b"hard", kind=b"1", target=b"./file"), header(b"soft", kind=b"2", target=b"../../x")],
        [entry(b".wh.gone"), entry(b"d/.wh..wh..opq"), entry(b"d/new", b"x")],
        [header(b"dev/zero", kind=b"3", fields={329: b"0000001\0", 337: b"0000005\0"})],
        [extended(records(path=b"n" * 200, mtime=b"-1.5", uid=b"3000000", uname=b"me")), entry(b"x", b"y")],
        [extended(record(b"SCHILY.xattr.security.capability", b"\1\0\0\2" + bytes(16))), FILE],
        [extended(records(size=b"7")), FILE],
        [long_name(b"b" * 200 + b"\0"), long_name(b"t" * 200 + b"\0", kind=b"K"),
         entry(b"b", kind=b"2", target=b"t", gnu=True)],
        [entry(b"a", gnu=True, fields={108: b"\x80\0\0\0\x00\x2d\xc6\xc0", 136: b"\xff" * 12})],
        [entry(b"old", kind=b"\0")],
        [entry("größe".encode(), b"x"), entry(b"latin-\xe9", b"x")],
    ],
)  # fmt: skip
def test_what_tools_write_is_taken(parts: list[bytes]) -> None:
    assert examined(*parts).files


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_file_beyond_what_octal_can_say(form: Any) -> None:
    """Its size stands in an extended header, or in binary."""
    info = tarfile.TarInfo("large")
    info.size = 9 * 1024**3
    assert next(archives.tar_entries([info.tobuf(form)])).size == info.size


def test_judged_as_what_pythons_reader_finds() -> None:
    content = tar(
        ("d", {"type": tarfile.DIRTYPE}, b""), ("d/a", {}, b"x" * 5000), ("d/b", {}, b""),
        ("l", {"type": tarfile.SYMTYPE, "linkname": "t" * 100}, b""),
    )  # fmt: skip
    found = examine_layer([content], max_size=MIB, max_files=10)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert found.files == len(archive.getmembers())
    assert found.size == 4096 + 8192 + 0 + 4096
