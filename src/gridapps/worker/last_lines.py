"""The last lines that a failed program wrote, for the reason of its end.

Many tools report errors on standard output, which is an output and not part of the log. So both are quoted.
The bytes are the program's: a bounded part of them is read, and what is shown is printable.
"""

import os
import stat
from pathlib import Path

from gridapps.sandbox.log import clean
from gridapps.sandbox.protocol import Limits

_READ = 4096  # bytes at the end of each file
_LINES = 3
_LONGEST = 200  # characters of a line


def last_lines(*, log: Path, output: Path, limits: Limits) -> str:
    """Sentences with the last lines of log and standard output, and about a limit that they name; "" if the
    program wrote nothing. `log` has lines of time and text."""
    said = {
        "Its log ends": [line.partition(" ")[2] for line in _tail(log)],
        "Its standard output ends": _tail(output),
    }
    quoted = {where: _quoted(lines) for where, lines in said.items()}
    sentences = [f"{where}: {text}" for where, text in quoted.items() if text]
    return " ".join([*sentences, *_limits_named(" ".join(quoted.values()), limits)])


def _limits_named(text: str, limits: Limits) -> list[str]:
    """The kernel counts neither refused files nor all writes that found no space, so these are conclusions
    from what the program wrote."""
    sentences = {
        "Too many open files": f"At most {limits.open_files} files can be open in one process.",
        "No space left on device": "/grid and /grid-scratch share the disk that was requested; /tmp and "
        "/dev/shm share the memory.",
    }
    return [sentence for words, sentence in sentences.items() if words.lower() in text.lower()]


def _quoted(lines: list[str]) -> str:
    """The last lines with a letter or digit: Python underlines what failed."""
    written = [clean(line).strip() for line in lines if any(map(str.isalnum, line))]
    return " / ".join(
        line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…" for line in written[-_LINES:]
    )


def _tail(path: Path) -> list[str]:
    """The last lines of a file, without one whose beginning was not read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        found = os.fstat(descriptor)
        start = max(0, found.st_size - _READ)
        if not stat.S_ISREG(found.st_mode):
            return []
        text = os.pread(descriptor, _READ, start).decode("utf-8", errors="replace")
    finally:
        os.close(descriptor)
    lines = text.replace("\r", "\n").split("\n")
    return lines[1:] if start > 0 and len(lines) > 1 else lines
