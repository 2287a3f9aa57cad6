"""The base of all errors with which an operation refuses a request. Plain Python: no Django, no HTTP."""

from collections.abc import Sequence


class Refused(Exception):
    """The request cannot be carried out. The message is a sentence for the caller.

    Each subclass has its `code`, the stable one of the API (docs/api.md). `fields`: pairs of JSON pointer and
    sentence.
    """

    code: str

    def __init__(self, message: str, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.fields = list(fields)
