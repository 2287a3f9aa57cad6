"""Uploading point-cloud files to S3: each content once, and only what was measured."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from django.db import connections

from gridapps.exports import facts, stored_files
from gridapps.exports.headers import BadPointCloud
from gridapps.exports.models import ExportFile
from gridapps.storage.choice import current
from gridapps.storage.interface import Missing

CHANGED = "The file was changed while it was imported. Import it again when it is complete."


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """A file whose content is in S3."""

    sha256: str
    size: int  # bytes
    facts: facts.Facts


def upload(source: Path) -> Uploaded:
    """Measure the file, and upload its content unless an export has the same.

    Raises BadPointCloud, StorageUnavailable.
    """
    with os.fdopen(stored_files.open_regular(source), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        found = facts.measure(source)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if not _stored(sha256, size):
            file.seek(0)
            current().put(stored_files.key(sha256), _Same(file, sha256, size), size=size)
        here, named = os.fstat(file.fileno()), source.lstat()
        if (here.st_dev, here.st_ino, here.st_size) != (named.st_dev, named.st_ino, size):
            raise BadPointCloud(CHANGED)
    return Uploaded(sha256=sha256, size=size, facts=found)


def _stored(sha256: str, size: int) -> bool:
    """Whether the content is there and an export refers to it. Without that it may be removed any time."""
    try:
        used = ExportFile.objects.filter(path=sha256, export__deleted_at=None).exists()
    finally:
        connections.close_all()  # of this thread of an import
    try:
        return used and current().size(stored_files.key(sha256)) == size
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
