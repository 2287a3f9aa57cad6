"""Reading the log of an attempt, also while it is written: `worker.log_recording` writes it."""

from gridapps.runs.store import AttemptFiles, is_shared
from gridapps.storage.choice import current
from gridapps.storage.interface import Missing


def read(files: AttemptFiles, offset: int, limit: int, *, ended: bool) -> bytes:
    """Up to `limit` bytes of an attempt's log from `offset`, as far as it is written.

    `ended`: the attempt has ended. Raises StorageUnavailable.
    """
    if is_shared():
        try:
            with files.log.open("rb") as file:
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""
    if ended:
        try:
            return b"".join(current().read(files.log_key, start=offset, stop=offset + limit))
        except Missing:
            pass  # its worker died before it published the whole log
    return _read_piece(files, offset, limit)


def _read_piece(files: AttemptFiles, offset: int, limit: int) -> bytes:
    for entry in current().entries(f"{files.pieces_key}/"):
        start = int(entry.key.rpartition("/")[2])
        if start <= offset < start + entry.size:
            try:
                here = offset - start
                return b"".join(current().read(entry.key, start=here, stop=here + limit))
            except Missing:
                break  # it has just been replaced by the whole log
    return b""
