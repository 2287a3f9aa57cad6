"""Format log records as JSON objects or text. A line has a bounded length and shows no token or password."""

import json
import logging
import re
from datetime import UTC, datetime

from gridapps.audit import context

MAX_MESSAGE = 1000  # characters
MAX_EXCEPTION = 6000  # characters: the first quarter and the last three
# Messages of libraries may hold secrets. Both expressions take linear time: no match can begin inside
# another. tests/test_expressions.py checks that.
_HEADER = re.compile(
    r"(?i)\b(?P<scheme>(?:authorization:\s{0,4})?(?:bearer|basic)|authorization:)\s+[A-Za-z0-9._~+/=-]{6,}"
)
_URL = re.compile(r"(?P<user>://[^\s/:@]*):[^\s/@]+@")
# A secret that extends beyond this margin is cut before it is recognised.
_MARGIN = 16 * 1024


def without_secrets(text: str) -> str:
    """The text without the credentials after `Bearer` or `Basic`, and without passwords in URLs."""
    return _URL.sub(r"\g<user>:[removed]@", _HEADER.sub(r"\g<scheme> [removed]", text))


def message(text: str) -> str:
    """A message for the log: its beginning, without secrets."""
    shown = without_secrets(text[: MAX_MESSAGE + _MARGIN])
    if len(shown) <= MAX_MESSAGE and len(text) <= MAX_MESSAGE + _MARGIN:
        return shown
    return f"{shown[:MAX_MESSAGE]}... [cut, {len(text)} characters]"


def exception(text: str) -> str:
    """A traceback for the log: its beginning and its end, without secrets."""
    if len(text) <= MAX_EXCEPTION + _MARGIN:
        first = last = without_secrets(text)
        if len(first) <= MAX_EXCEPTION:
            return first
    else:
        first = without_secrets(text[: MAX_EXCEPTION + _MARGIN])
        last = without_secrets(text[-MAX_EXCEPTION - _MARGIN :])
    head = MAX_EXCEPTION // 4
    return f"{first[:head]}\n... [cut, {len(text)} characters] ...\n{last[head - MAX_EXCEPTION :]}"


class Json(logging.Formatter):
    """An object with `at`, `level`, `logger`, `message`, the bound ids, and `exception` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": message(record.getMessage()),
            **context.current(),
        }
        if record.exc_info:
            line["exception"] = exception(self.formatException(record.exc_info))
        return json.dumps(line)


class Text(logging.Formatter):
    """The same as plain text: one line, with the ids in brackets."""

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={value}" for name, value in context.current().items())
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {message(record.getMessage())}"
        line += f" [{ids}]" if ids else ""
        return f"{line}\n{exception(self.formatException(record.exc_info))}" if record.exc_info else line
