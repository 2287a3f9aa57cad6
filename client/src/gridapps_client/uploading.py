"""Upload files as an export: in parts, continued after a broken connection or by a second call."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gridapps_client.client import Client
from gridapps_client.errors import Conflict, GridAppsError, Unreachable
from gridapps_client.models import Upload, UploadedFile

PART = 8 * 1024**2  # bytes
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # seconds after failures in a row
_POLL = (0.3, 5.0)  # seconds between looks at an upload that is being checked: at first, and at most
Progressed = Callable[[int], None]


@dataclass(frozen=True)
class _Local:
    path: Path
    size: int
    sha256: str

    @property
    def announced(self) -> dict[str, object]:
        return {"name": self.path.name, "size": self.size, "sha256": self.sha256}


def upload(
    client: Client,
    files: Sequence[Path],
    *,
    name: str,
    skip_bad: bool = False,
    progressed: Progressed = lambda count: None,  # noqa: ARG005 (names what it is called with)
) -> Upload:
    """Send the files, and return the upload once all have arrived. `wait` waits for the check.

    An earlier upload of the same files under this name is continued. `progressed` is called with the bytes of
    each part, and with those that had arrived before.
    """
    local = [_read(path) for path in files]
    begun = _earlier(client, local, name=name, skip_bad=skip_bad) or client.begin_upload(
        name=name, files=[file.announced for file in local], skip_bad=skip_bad
    )
    for file, source in zip(begun.files, local, strict=True):
        _send(client, begun.id, file, source, progressed)
    return client.show_upload(begun.id)


def wait(client: Client, upload_id: str) -> Upload:
    """The upload, once it is ready or refused."""
    pause, longest = _POLL
    while (shown := client.show_upload(upload_id)).state not in {"ready", "refused"}:
        time.sleep(pause)
        pause = min(2 * pause, longest)
    return shown


def _earlier(client: Client, local: Sequence[_Local], *, name: str, skip_bad: bool) -> Upload | None:
    wanted = [(file.path.name, file.size, file.sha256) for file in local]
    for found in client.uploads():
        same = (found.state, found.name, found.skip_bad) == ("receiving", name.strip(), skip_bad)
        if same and [(file.name, file.size, file.sha256) for file in found.files] == wanted:
            return found
    return None


def _send(client: Client, upload_id: str, file: UploadedFile, source: _Local, progressed: Progressed) -> None:
    offset, failures = file.offset, 0
    progressed(offset)
    with _opened(source.path) as content:
        while offset < source.size:
            content.seek(offset)
            part = content.read(min(PART, source.size - offset))
            if not part:
                raise GridAppsError(f"{source.path} was changed while it was sent.", code="changed")
            try:
                client.send_part(upload_id, file.index, offset=offset, content=part)
                arrived, failures = offset + len(part), 0
            except (Unreachable, Conflict) as error:
                # A part may have arrived although its answer was lost.
                if failures == len(_PAUSES):
                    raise
                time.sleep(_PAUSES[failures])
                failures += 1
                arrived = _arrived(client, upload_id, file.index, error)
            progressed(arrived - offset)
            offset = arrived


def _arrived(client: Client, upload_id: str, index: int, error: GridAppsError) -> int:
    shown = client.show_upload(upload_id)
    if shown.state == "refused":
        raise error
    return shown.files[index].offset


def _read(path: Path) -> _Local:
    with _opened(path) as content:
        digest = hashlib.sha256()
        while piece := content.read(1024**2):
            digest.update(piece)
        return _Local(path, content.tell(), digest.hexdigest())


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise GridAppsError(f"{path} cannot be read: {error.strerror}.", code="usage") from error
