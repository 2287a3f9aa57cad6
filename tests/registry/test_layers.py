"""What layers unpack to: read by the rules of the engine that would unpack them, and refused when hostile."""

import bz2
import gzip
import lzma
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridapps.oci.documents import Invalid
from gridapps.oci.layer_contents import LayerContents, examine_layer
from gridapps.oci.layer_tree import TooLarge
from gridapps.pushes import reading
from gridapps.registry.models import Layer
from tests.registry.built import Image, config, digest, encoded, layer
from tests.registry.conftest import Developer
from tests.registry.tars import tar
from tests.registry.test_pushes import refusal

MIB = 1024**2
GIB = 1024**3


def pieces(content: bytes, size: int = 1000) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def examined(content: bytes, *, size: int = 1000) -> LayerContents:
    return examine_layer(pieces(content, size), max_size=64 * MIB, max_files=100)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("size", [1, 511, 512, 100_000])
def test_what_a_layer_holds_is_found(form: int, pack: Callable[[bytes], bytes], size: int) -> None:
    long = "d" * 90 + "/" + "f" * 90
    content = tar(
        ("etc", {"type": tarfile.DIRTYPE}, b""),
        ("etc/motd", {}, b"x" * 5000),
        (long, {"mtime": 1.5 if form == tarfile.PAX_FORMAT else 1}, b"long"),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "../../etc/motd"}, b""),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "etc/motd"}, b""),
        ("dev/null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, b""),
        (".wh.gone", {}, b""),
        form=form,
    )
    found = examined(pack(content), size=size)
    assert found.diff_id == digest(content)
    assert found.files == 9, "two directories have no entry of their own"
    assert 6 * 4096 <= found.size <= 8 * 4096


def test_members_of_gzip_may_follow_each_other() -> None:
    content = tar(("a", {}, b"a" * 3000))
    assert examined(gzip.compress(content[:700]) + gzip.compress(content[700:])).diff_id == digest(content)


def _with(block: int, at: int, value: bytes) -> bytes:
    """A tar with one file whose header is spoilt, and sound again by its checksum."""
    content = bytearray(tar(("a", {}, b"x"), form=tarfile.GNU_FORMAT))
    start = block * 512
    content[start + at : start + at + len(value)] = value
    content[start + 148 : start + 156] = b" " * 8
    total = sum(content[start : start + 512])
    content[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bz2.compress(tar(("a", {}, b""))), "compressed with bzip2"),
        (lzma.compress(tar(("a", {}, b""))), "compressed with xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "compressed with zstd"),
        (b"\x50\x2a\x4d\x18" + bytes(600), "compressed with zstd"),
        (gzip.compress(tar(("a", {}, b"")))[:-9], "in the middle of its gzip"),
        (gzip.compress(tar(("a", {}, b""))) + b"more", "not valid gzip"),
        (gzip.compress(tar(("a", {}, b"")))[:-8] + b"12345678", "not valid gzip"),
        (b"no tar at all" * 100, "not a valid tar"),
        (gzip.compress(b"no tar at all" * 100), "not a valid tar"),
        (tar(("a", {}, b"x" * 2000))[:1024], "in the middle of a file"),
        (tar(("a", {}, b"x"))[:1536] + tar(("b", {}, b"x")), "continues after the end"),
        (tar(("a", {}, b"x")) + bytes(2 * MIB), "continues after the end"),
        (tar(("../a", {}, b"x")), "outside the image: '../a'"),
        (tar(("a/../../b", {}, b"x")), "outside the image"),
        (tar(("x/" * 100 + "../b", {}, b"x")), "outside the image"),
        (tar(("a", {"type": tarfile.LNKTYPE, "linkname": "../../etc/shadow"}, b"")), "outside the image"),
        (tar(("a", {"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.realsize": "9"}}, b"")), "sparse"),
        (tar(("a", {"pax_headers": {"size": "many"}}, b"")), "without a size"),
        (_with(0, 156, b"S"), "a sparse file: 'a'"),
        (_with(0, 156, b"7"), "unknown type"),
        (_with(0, 124, b"\xff" * 12), "without a size"),
        (_with(0, 124, b"zzzzzzzzzzz\0"), "not a valid tar"),
        (_with(0, 156, b"x"), "headers of two forms"),
        (_with(0, 124, b"77777777777\0")[:512], "in the middle of a file|TooLarge"),
    ],
)
def test_what_is_no_plain_layer_is_refused(content: bytes, words: str) -> None:
    with pytest.raises((Invalid, TooLarge)) as raised:
        examined(content)
    assert any(word in f"{raised.value} {raised.type.__name__}" for word in words.split("|")), raised.value


@pytest.mark.parametrize("zeros", [GIB, 64 * GIB])
def test_a_bomb_is_left_as_soon_as_its_header_is_seen(zeros: int) -> None:
    """Its content is never unpacked: a gzip of the whole would have a thousandth of the size."""
    info = tarfile.TarInfo("bomb")
    info.size = zeros
    bomb = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(MIB))
    with pytest.raises(TooLarge):
        examined(bomb)


def test_many_small_files_count_as_what_they_take() -> None:
    with pytest.raises(TooLarge):
        examine_layer(
            pieces(tar(*((str(n), {}, b"x") for n in range(50)))), max_size=40 * 4096, max_files=100
        )
    with pytest.raises(TooLarge):
        examine_layer(pieces(tar(*((str(n), {}, b"") for n in range(50)))), max_size=MIB, max_files=49)


def test_headers_count_as_well() -> None:
    """The engine keeps them beside the layer, without any file that they belong to."""
    notes = b"".join(
        tar((str(n), {"pax_headers": {"comment": "x" * 100_000}}, b""))[:101_376] for n in range(20)
    )
    with pytest.raises(TooLarge):
        examine_layer(pieces(notes), max_size=MIB, max_files=100)


def test_memory_stays_small_whatever_it_unpacks_to() -> None:
    bomb = gzip.compress(tar(("a", {}, bytes(48 * MIB))))
    tracemalloc.start()
    assert examined(bomb, size=256 * 1024).size == 48 * MIB
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MIB


@given(content=st.binary(max_size=3000), pack=st.booleans())
def test_any_bytes_are_judged(content: bytes, pack: bool) -> None:
    try:
        found = examined(gzip.compress(content) if pack else content)
    except (Invalid, TooLarge):
        return
    assert not content.strip(b"\0"), found


@given(at=st.integers(0, 1535), value=st.binary(min_size=1, max_size=30))
def test_a_tar_that_is_spoilt_anywhere_is_judged(at: int, value: bytes) -> None:
    content = bytearray(tar(("a", {"pax_headers": {"path": "b"}}, b"x" * 10)))
    content[at : at + len(value)] = value
    with suppress(Invalid, TooLarge):
        assert examined(bytes(content)).files <= 1


pushing = pytest.mark.usefixtures("real_registry")


def push(developer: Developer, image: Image, tag: str = "v1") -> Any:
    developer.upload(*image.blobs)
    return developer.push(image.manifest, tag)


@pushing
@pytest.mark.django_db
def test_a_bomb_is_refused_at_the_push(developer: Developer, set_limits: Callable[..., None]) -> None:
    set_limits(max_unpacked=100 * MIB)
    bomb = gzip.compress(tar(("zeros", {}, bytes(101 * MIB))))
    assert len(bomb) < MIB
    assert "too large when unpacked" in refusal(push(developer, Image(layers=[layer(), bomb])))


@pushing
@pytest.mark.django_db
def test_layers_count_together(developer: Developer, set_limits: Callable[..., None]) -> None:
    parts = [gzip.compress(tar((str(n), {}, bytes(2 * MIB)))) for n in range(3)]
    set_limits(max_unpacked=5 * MIB)
    assert "too large when unpacked" in refusal(push(developer, Image(layers=parts)))
    assert push(developer, Image(layers=parts[:2])).status_code == 201
    set_limits(max_image_files=1)
    assert "in 1 files" in refusal(push(developer, Image(layers=parts[:2]), "v2"))


@pushing
@pytest.mark.django_db
def test_a_layer_is_read_once(developer: Developer, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image()
    assert push(developer, image).status_code == 201
    assert Layer.objects.get(digest=digest(image.layers[0])).files == 1
    monkeypatch.setattr(reading, "LayerReader", None)
    assert push(developer, image, "v2").status_code == 201


@pushing
@pytest.mark.django_db
def test_a_configuration_that_lies_about_its_layers_is_refused(developer: Developer) -> None:
    image = Image(config=encoded(config(layers=[layer("other")])))
    assert "content that the image configuration does not name" in refusal(push(developer, image))


@pushing
@pytest.mark.django_db
def test_a_layer_that_is_none_is_named(developer: Developer) -> None:
    image = Image(layers=[layer(), b"no layer at all" * 99])
    assert f"Layer 2 ({digest(image.layers[1])}) is not a valid tar" in refusal(push(developer, image))


@pushing
@pytest.mark.django_db
def test_who_waits_too_long_for_others_is_told(developer: Developer, monkeypatch: pytest.MonkeyPatch) -> None:
    with reading.slot(developer.app.owner), monkeypatch.context() as patched:
        patched.setattr(reading, "PATIENCE", 0.01)
        answer = push(developer, Image())
    assert answer.status_code == 503, answer.content
    assert push(developer, Image()).status_code == 201
