"""Reading the log of an attempt, also while it is written: `worker.log_recording` writes it.

Offsets count the bytes of the whole log. Of a log that is too long, only the beginning and the newest lines
are kept; a line says how many bytes are missing between them.
"""

from dataclasses import dataclass

from gridapps.runs.store import AttemptFiles, is_shared
from gridapps.storage.choice import current
from gridapps.storage.interface import Missing


@dataclass(frozen=True)
class LogPart:
    """Some bytes of a log, and the offset of those that follow."""

    text: bytes
    end: int


def read(files: AttemptFiles, offset: int, limit: int, *, ended: bool) -> LogPart:
    """Up to `limit` bytes of an attempt's log from `offset`, as far as it is written. What is no longer kept
    is skipped: the text is then the line that says so.

    `ended`: the attempt has ended. Raises StorageUnavailable.
    """
    if text := _read_beginning(files, offset, limit, ended=ended):
        return LogPart(text, offset + len(text))
    for start, size in files.tail_pieces():
        if offset < start:
            return LogPart(_missing(files, start, count=start - offset), start)
        if offset < start + size and (text := _read_tail(files, start, offset - start, limit)):
            return LogPart(text, offset + len(text))
    return LogPart(b"", offset)


def _read_beginning(files: AttemptFiles, offset: int, limit: int, *, ended: bool) -> bytes:
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


def _read_tail(files: AttemptFiles, start: int, offset: int, limit: int) -> bytes:
    try:
        return b"".join(current().read(files.tail_piece_key(start), start=offset, stop=offset + limit))
    except Missing:  # removed meanwhile: newer lines have come
        return b""


def _missing(files: AttemptFiles, start: int, *, count: int) -> bytes:
    """A line about missing bytes, with the time of the line that follows them."""
    stamp, _, _ = _read_tail(files, start, 0, 64).partition(b" ")
    return stamp + f" [{count} bytes of the log are left out here]\n".encode()
