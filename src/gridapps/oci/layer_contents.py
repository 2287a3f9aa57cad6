"""Determines what a layer unpacks to while it streams past. Nothing is stored, and memory stays small.

A node's engine unpacks layers as root, onto its own disk, without a limit. So each layer is read here first,
as the engine would read it: gzip (or no compression) around a tar, whatever its media type says. Sizes are
those that the engine would write. Anything but a plain tree of directories, files and links is refused.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gridapps.oci import archives
from gridapps.oci.archives import BLOCK
from gridapps.oci.documents import Invalid
from gridapps.oci.layer_tree import LayerTree

_STEP = 1024**2  # bytes that are decompressed at once
_UNSUPPORTED = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


@dataclass(frozen=True)
class LayerContents:
    """What a layer unpacks to."""

    diff_id: str  # digest of the uncompressed tar
    size: int  # bytes that it takes on a file system
    files: int  # entries of any kind
    index: bytes = b""  # what matters when layers are combined; see `trees`


def examine_layer(pieces: Iterable[bytes], *, max_size: int, max_files: int) -> LayerContents:
    """Read one layer to its end, or until it exceeds a limit.

    Raises TooLarge, and Invalid with the end of a sentence that begins with the layer's name.
    """
    digest = hashlib.sha256()
    tree = LayerTree(max_size=max_size, max_files=max_files)
    for entry in archives.tar_entries(_hashed(_uncompressed(iter(pieces)), digest.update)):
        tree.add(entry)
    return LayerContents(f"sha256:{digest.hexdigest()}", tree.size, tree.files, tree.index())


def _hashed(pieces: Iterable[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in pieces:
        update(piece)
        yield piece


def _uncompressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= BLOCK:
            break
    for magic, name in _UNSUPPORTED.items():
        if first.startswith(magic):
            raise Invalid(f"is compressed with {name}; only gzip is supported.")
    if first[:4] and 0x50 <= first[0] <= 0x5F and first[1:4] == b"\x2a\x4d\x18":
        raise Invalid("is compressed with zstd; only gzip is supported.")
    if first.startswith(b"\x1f\x8b"):
        yield from _gunzipped(first, pieces)
    else:
        yield first
        yield from pieces


def _gunzipped(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The content of all gzip members, one after the other, as Go's reader returns it."""
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
        raise Invalid("is not valid gzip.") from None
    if not member.eof:
        raise Invalid("ends in the middle of its gzip.")
