"""Uploading point-cloud files to S3: each content once."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from gridapps.exports import stored_files
from gridapps.exports.errors import BadPointCloud
from gridapps.storage.choice import current
from gridapps.storage.interface import Missing

CHANGED = "The file was changed while it was imported. Import it again when it is complete."


def upload(source: Path, *, sha256: str, size: int, used: bool) -> None:
    """Upload the file, unless it is there and an export refers to it (`used`); otherwise it may be removed
    any time.

    Raises BadPointCloud if its content is not the one with this hash, StorageUnavailable.
    """
    if used and _stored(sha256, size):
        return
    with os.fdopen(stored_files.open_regular(source), "rb") as file:
        current().put(stored_files.key(sha256), _Same(file, sha256, size), size=size)


def _stored(sha256: str, size: int) -> bool:
    try:
        return current().size(stored_files.key(sha256)) == size
    except Missing:
        return False


class _Same:
    """A file whose last piece can be read only if the content has not changed; otherwise `read` raises."""

    def __init__(self, file: BinaryIO, sha256: str, size: int) -> None:
        self._file = file
        self._sha256 = sha256
        self._left = size
        self._digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        piece = self._file.read(size)
        self._digest.update(piece)
        self._left -= len(piece)
        last = self._left <= 0 or not piece
        if last and (self._left or self._digest.hexdigest() != self._sha256):
            raise BadPointCloud(CHANGED)
        return piece
