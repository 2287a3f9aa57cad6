"""The part that runs the operator's scanner: a command that examines an image before it is shared.

The promoter sends the name of a directory below `<data>/scans` and waits for the verdict; if it closes the
connection, the scan is given up. The command gets the image as an OCI layout, none of the instance's
settings, and limited time. Only exit status 0 accepts the release: it is refused if the command cannot be
started or does not end. At its start this part removes directories and processes of its predecessor.
"""

import contextlib
import fcntl
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from gridapps.processes import descendants, leftovers
from gridapps.promotion.scanning import IMAGES, LAYOUT, SOCKET, ScanResult

PLACEHOLDER = "{}"  # in a word of the command; without it the directory is the last argument
KEPT_BYTES, KEPT_LINES, KEPT_LINE = 16 * 1024, 20, 300  # of the end of its output
SAID_LINES = 5  # of these, in the reason of a failed share
_LOOK = 0.2  # seconds
_REQUEST = 10.0  # seconds in which the promoter has to send its request
_HOME = "home"  # what the scanner keeps between runs, such as its database
_NAME = re.compile(rb"([a-z0-9-]{1,100})\n")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")


class _GivenUp(Exception):
    """The promoter no longer waits for the verdict."""


class Scanner:
    """Scans one image after the other. One per instance."""

    def __init__(self, data: Path, *, command: str, timeout: float) -> None:
        """`timeout`: seconds that the command may take."""
        self._data = data
        self._root = data / "scanner"
        self._command = command
        self._timeout = timeout
        (self._root / _HOME).mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(self._root)
        address = data / SOCKET
        address.parent.mkdir(parents=True, exist_ok=True)
        address.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(address))
        address.chmod(0o666)  # only the promoter may enter the directory
        self._listener.listen()
        self._inode = address.lstat().st_ino

    def run(self) -> None:
        """Scan until the process ends, or something else took the place of the socket.

        After each scan every process that the command has started is ended.
        """
        descendants.adopt()
        try:
            while self._is_reachable():
                self.serve()
                descendants.end_all()
        finally:
            descendants.end_all()

    def _is_reachable(self) -> bool:
        """Whether the promoter still finds this socket; the command's account may replace it."""
        try:
            return (self._data / SOCKET).lstat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def serve(self) -> None:
        """Answer the next request."""
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError, _GivenUp):
            connection.settimeout(_REQUEST)
            if asked := _NAME.fullmatch(connection.recv(128)):
                layout = self._data / IMAGES / asked[1].decode() / LAYOUT
                verdict = self._verdict(layout, wanted=lambda: not _readable(connection))
                connection.sendall(msgspec.json.encode(verdict))

    def _verdict(self, layout: Path, *, wanted: Callable[[], bool]) -> ScanResult:
        directory = Path(tempfile.mkdtemp(prefix=f"{layout.parent.name}-", dir=self._root))
        try:
            return _run(self._command, layout, directory=directory, timeout=self._timeout, wanted=wanted)
        finally:
            _remove(directory)

    def close(self) -> None:
        """Close the socket."""
        self._listener.close()


def remove_leftovers(root: Path) -> None:
    """Kill processes and remove directories that an earlier part left. Call it while no scan runs."""
    for directory in root.iterdir():
        if directory.name != _HOME:
            _remove(directory)


def _run(
    command: str, layout: Path, *, directory: Path, timeout: float, wanted: Callable[[], bool]
) -> ScanResult:
    """The command's verdict on the image in `layout`. It works in `directory`. Raises _GivenUp."""
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
    # The developer reads the output, and need not know the instance's directories.
    for each in (directory, layout.parent):
        printed = printed.replace(str(each).encode(), b"...")
    output = printable(printed)
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


def _readable(connection: socket.socket) -> bool:
    """Whether the promoter closed the connection; it sends nothing after its request."""
    return bool(select.select([connection], [], [], 0)[0])


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
    """Whether the process ended in time, and the end of its output. Raises _GivenUp."""
    assert process.stdout is not None, "it is a pipe"
    os.set_blocking(process.stdout.fileno(), False)
    printed, end = b"", time.monotonic() + timeout
    while process.poll() is None:
        if time.monotonic() > end:
            return False, printed
        if not wanted():
            raise _GivenUp
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
