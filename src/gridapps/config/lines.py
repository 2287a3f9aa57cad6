"""Format log records as JSON objects or text. A line has a bounded length and shows no token or password."""

import logging
import re
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from gridapps.audit import context

MAX_MESSAGE = 1000  # characters
MAX_EXCEPTION = 6000  # characters: the first quarter and the last three
# The texts of libraries may hold secrets. Both expressions take linear time: no part can begin inside of
# another one. tests/test_expressions.py checks that.
_HEADER = re.compile(
    r"(?i)\b(?P<scheme>(?:authorization:\s{0,4})?(?:bearer|basic)|authorization:)\s+[A-Za-z0-9._~+/=-]{6,}"
)
_URL = re.compile(r"(?P<user>://[^\s/:@]*):[^\s/@]+@")
# Secrets that are longer than this are cut before they are recognised.
_MARGIN = 16 * 1024


def without_secrets(text: str) -> str:
    """The text without what follows `Bearer` or `Basic`, and without the passwords of URLs."""
    return _URL.sub(r"\g<user>:[removed]@", _HEADER.sub(r"\g<scheme> [removed]", text))


def message(text: str) -> str:
    """A message as it is logged: its beginning, without secrets."""
    shown = without_secrets(text[: MAX_MESSAGE + _MARGIN])
    if len(shown) <= MAX_MESSAGE and len(text) <= MAX_MESSAGE + _MARGIN:
        return shown
    return f"{shown[:MAX_MESSAGE]}... [cut, {len(text)} characters]"


def exception(text: str) -> str:
    """A traceback as it is logged: its beginning and its end, without secrets."""
    if len(text) <= MAX_EXCEPTION + _MARGIN:
        first = last = without_secrets(text)
        if len(first) <= MAX_EXCEPTION:
            return first
    else:
        first = without_secrets(text[: MAX_EXCEPTION + _MARGIN])
        last = without_secrets(text[-MAX_EXCEPTION - _MARGIN :])
    head = MAX_EXCEPTION // 4
    return f"{first[:head]}\n... [cut, {len(text)} characters] ...\n{last[head - MAX_EXCEPTION :]}"


class Json(JsonFormatter):
    """`at`, `level`, `logger`, `message`, the ids of the context, and `exception` where there is one."""

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        log_data.update(
            at=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            level=record.levelname,
            logger=record.name,
            message=message(record.getMessage()),
            **context.current(),
        )
        if found := message_dict.get("exc_info"):
            log_data["exception"] = exception(str(found))


class Text(logging.Formatter):
    """The same for people: a line, and the ids in brackets."""

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={value}" for name, value in context.current().items())
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {message(record.getMessage())}"
        line += f" [{ids}]" if ids else ""
        return f"{line}\n{exception(self.formatException(record.exc_info))}" if record.exc_info else line
