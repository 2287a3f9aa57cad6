"""Log lines in the two formats of an instance's parts (docs/operations.md)."""

import logging
import time
from typing import Literal

import msgspec

_LONGEST, _LONGEST_TRACE = 1000, 6000  # characters


class JsonLines(logging.Formatter):
    """Formats each record as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "at": f"{moment}.{record.msecs:03.0f}+00:00",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:_LONGEST],
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-_LONGEST_TRACE:]
        return msgspec.json.encode(line).decode()


def write(log_format: Literal["json", "text"]) -> None:
    """Write the log of this process to standard error."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message).1000s")
    handler.setFormatter(JsonLines() if log_format == "json" else text)
    logging.basicConfig(handlers=[handler], level=logging.INFO)
