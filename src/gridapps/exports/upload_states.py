"""The states of uploads, as data. docs/states.md is generated from this table."""

from enum import StrEnum

from gridapps.moves import Moves, ends

MAX_PART = 8 * 1024**2  # bytes of a request that brings a part of a file


class UploadState(StrEnum):
    """Where the files of an upload are."""

    RECEIVING = "receiving"
    CHECKING = "checking"
    READY = "ready"
    REFUSED = "refused"


UPLOAD_MOVES: Moves[UploadState] = {
    UploadState.RECEIVING: frozenset({UploadState.CHECKING, UploadState.REFUSED}),
    UploadState.CHECKING: frozenset({UploadState.READY, UploadState.REFUSED}),
    UploadState.READY: frozenset(),
    UploadState.REFUSED: frozenset(),
}
UPLOAD_ENDS = ends(UPLOAD_MOVES)
OPEN = frozenset(UploadState) - UPLOAD_ENDS
