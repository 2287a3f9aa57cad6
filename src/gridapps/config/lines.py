"""How log lines are written: a JSON object each, or text. Neither ever shows a token or a password."""

import logging
import re
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from gridapps import context

# Nobody means to log these; an exception's text may hold one all the same.
_SECRETS = re.compile(
    r"(?i)\b(?P<scheme>bearer|basic|authorization:(?:\s*bearer)?)\s+[A-Za-z0-9._~+/=-]{6,}"
    r"|(?P<url>[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@"
)


def without_secrets(text: str) -> str:
    """The text with what follows `Bearer` or stands as a password in a URL taken out."""
    return _SECRETS.sub(_replaced, text)


def _replaced(found: re.Match[str]) -> str:
    return f"{found['scheme']} [removed]" if found["scheme"] else f"{found['url']}:[removed]@"


class Json(JsonFormatter):
    """`at`, `level`, `logger`, `message`, the ids of the context, and `exception` where there is one."""

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        log_data.update(
            at=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            level=record.levelname,
            logger=record.name,
            message=without_secrets(record.getMessage()),
            **context.current(),
        )
        if exception := message_dict.get("exc_info"):
            log_data["exception"] = without_secrets(str(exception))


class Text(logging.Formatter):
    """The same for people: a line, and the ids in brackets."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}: {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={value}" for name, value in context.current().items())
        return without_secrets(super().format(record) + (f" [{ids}]" if ids else ""))
