"""The operator's scanner: a command that examines an image before it is shared.

The command gets the image as an OCI layout in a directory below `<data>/scanner`, none of the instance's
settings, and limited time. Only exit status 0 accepts the release: it is refused if the command cannot be
started or does not end. When a promoter starts, it removes directories and processes of its predecessor.
"""

import contextlib
import fcntl
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gridapps.processes import leftovers

PLACEHOLDER = "{}"  # in a word of the command; without it the directory is the last argument
SPARE = 1024**3  # bytes of disk that stay free beside the copy for the scanner
KEPT_BYTES, KEPT_LINES, KEPT_LINE = 16 * 1024, 20, 300  # of the end of its output
SAID_LINES = 5  # of these, in the reason of a failed share
_LOOK = 0.2  # seconds
_HOME = "home"  # what the scanner keeps between runs, such as its database
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")


class GivenUp(Exception):
    """The verdict is no longer needed, and the scanner was killed."""


@dataclass(frozen=True)
class ScanResult:
    """`fault` is empty if the image may be shared. `output` is the end of what the scanner printed."""

    output: str
    fault: str = ""


@contextmanager
def place(root: Path, name: str, *, size: int) -> Iterator[Path]:
    """A new directory for an image of `size` bytes, which is removed afterwards. Raises OSError."""
    (root / _HOME).mkdir(mode=0o700, parents=True, exist_ok=True)
    if shutil.disk_usage(root).free < size + SPARE:
        raise OSError(f"the image takes {size} bytes, and {SPARE} have to stay free")
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
    try:
        yield directory
    finally:
        _remove(directory)


def remove_leftovers(root: Path) -> None:
    """Kill processes and remove directories that an earlier promoter left. Call it while no scan runs."""
    for directory in root.iterdir() if root.is_dir() else ():
        if directory.name != _HOME:
            _remove(directory)


def run_scanner(
    command: str, layout: Path, *, directory: Path, timeout: float, wanted: Callable[[], bool]
) -> ScanResult:
    """The scanner's verdict on the image in `layout`, which is in a `directory` of `place`.

    Calls `wanted` periodically, and raises GivenUp once it returns false.
    """
    words = shlex.split(command)
    if any(PLACEHOLDER in word for word in words):
        words = [word.replace(PLACEHOLDER, str(layout)) for word in words]
    else:
        words.append(str(layout))
    with (directory / "held").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        try:
            process = subprocess.Popen(
                words, env=_environment(directory), cwd=directory, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[held.fileno()],
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return ScanResult("", f"The scanner {words[0]} cannot be started: {reason}.")
        try:
            ended, printed = _watch(process, timeout=timeout, wanted=wanted)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None, "it is a pipe"
            process.stdout.close()
    # The developer reads the output, and need not know the instance's directory.
    output = printable(printed.replace(str(directory).encode(), b"..."))
    if not ended:
        return ScanResult(output, f"The scanner did not end within {timeout:g} seconds.")
    if process.returncode == 0:
        return ScanResult(output)
    said = " / ".join(output.splitlines()[-SAID_LINES:]) or "it printed nothing"
    return ScanResult(output, f"The scanner refused the release (exit status {process.returncode}): {said}")


def printable(printed: bytes) -> str:
    """The last lines as plain text, without escape sequences and control characters."""
    text = _ESCAPES.sub("", printed.decode(errors="replace"))
    lines = (
        "".join(letter if letter.isprintable() else " " for letter in line).strip()[:KEPT_LINE]
        for line in text.splitlines()
    )
    return "\n".join([line for line in lines if line][-KEPT_LINES:])


def _environment(directory: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory.parent / _HOME),
        "TMPDIR": str(directory),
        "LANG": "C.UTF-8",
    }


def _watch(
    process: subprocess.Popen[bytes], *, timeout: float, wanted: Callable[[], bool]
) -> tuple[bool, bytes]:
    """Whether the process ended in time, and the end of its output. Raises GivenUp."""
    assert process.stdout is not None, "it is a pipe"
    os.set_blocking(process.stdout.fileno(), False)
    printed, end, asked = b"", time.monotonic() + timeout, time.monotonic()
    while process.poll() is None:
        if time.monotonic() > end:
            return False, printed
        if time.monotonic() > asked + 1:
            if not wanted():
                raise GivenUp
            asked = time.monotonic()
        printed = _more(process.stdout, printed, wait=_LOOK)
    # Not until end of file: a process that the scanner left behind may keep the pipe open.
    for _ in range(64):
        printed = _more(process.stdout, printed, wait=0)
    return True, printed


def _more(stream: IO[bytes], printed: bytes, *, wait: float) -> bytes:
    """The end of the output so far and of what arrives within `wait` seconds."""
    if select.select([stream], [], [], wait)[0]:
        piece = os.read(stream.fileno(), 64 * 1024)
        if not piece and wait:
            time.sleep(wait)  # it closed its output and still runs
        printed = (printed + piece)[-KEPT_BYTES:]
    return printed


def _remove(directory: Path) -> None:
    """Kill the remaining processes of a scan and remove its directory."""
    held = directory / "held"
    for process in leftovers.holders(held) if held.exists() else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)
