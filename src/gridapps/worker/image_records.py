"""Which images the worker has pulled, and when each was last used: a file per image, in a directory of the
node. A file contains the image's reference, and its modification time is the time of the last use.
"""

import hashlib
import os
from pathlib import Path


class ImageRecords:
    """The records of one node. A restarted worker finds those of its predecessor."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def note_use(self, reference: str) -> bool:
        """Record that the image is used now. Returns whether it was unknown. Raises OSError."""
        file = self._file(reference)
        is_new = not file.exists()
        if is_new:
            self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            new = file.with_suffix(".new")
            new.write_text(reference)
            new.rename(file)
        os.utime(file)
        return is_new

    def references(self) -> list[str]:
        """The recorded references, the least recently used first. Raises OSError."""
        files = [(file.stat().st_mtime_ns, file) for file in self._directory.glob("*.image")]
        return [file.read_text() for _, file in sorted(files)]

    def forget(self, reference: str) -> None:
        """Remove the record of an image. Idempotent. Raises OSError."""
        self._file(reference).unlink(missing_ok=True)

    def _file(self, reference: str) -> Path:
        return self._directory / f"{hashlib.sha256(reference.encode()).hexdigest()}.image"
