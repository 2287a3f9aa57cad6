"""The promoter's side of a scan: lays an image out for the scanner and asks for its verdict.

The operator's scanner reads what untrusted developers pushed, so it runs under an account of its own
(`scanner`), which can read the image in `<data>/scans` and nothing else of the instance.
"""

import secrets
import select
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gridapps.pushes.registry_client import Unavailable

IMAGES, SOCKET = Path("scans"), Path("run/scanner/socket")  # in the data directory
LAYOUT = "image"  # the OCI layout in a directory of `scan_directory`
SPARE = 1024**3  # bytes of disk that stay free beside the copy for the scanner
_LOOK = 1.0  # seconds between two calls of `wanted`
_MOST = 64 * 1024  # bytes of an answer


class GivenUp(Exception):
    """The verdict is no longer needed, and the scanner was killed."""


@dataclass(frozen=True)
class ScanResult:
    """`fault` is empty if the image may be shared. `output` is the end of what the scanner printed."""

    output: str
    fault: str = ""


@contextmanager
def scan_directory(data: Path, name: str, *, size: int) -> Iterator[Path]:
    """A new directory for an image of `size` bytes, which is removed afterwards. Raises OSError."""
    images = data / IMAGES
    images.mkdir(exist_ok=True)
    if shutil.disk_usage(images).free < size + SPARE:
        raise OSError(f"the image takes {size} bytes, and {SPARE} have to stay free")
    directory = images / f"{name}-{secrets.token_hex(4)}"
    directory.mkdir()  # with the group of `scans`, which is the scanner's
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def remove_leftovers(data: Path) -> None:
    """Remove directories that an earlier promoter left. Call it while no scan runs."""
    for directory in (data / IMAGES).iterdir() if (data / IMAGES).is_dir() else ():
        shutil.rmtree(directory, ignore_errors=True)


def scan(data: Path, directory: Path, *, wanted: Callable[[], bool]) -> ScanResult:
    """The scanner's verdict on the image in a `directory` of `scan_directory`.

    Calls `wanted` periodically, and raises GivenUp once it returns false. Raises Unavailable.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(data / SOCKET))
            connection.sendall(f"{directory.name}\n".encode())
            answer = _answer(connection, wanted)
        return msgspec.json.decode(answer, type=ScanResult)
    except (OSError, msgspec.DecodeError):
        raise Unavailable("The scanner does not answer.") from None


def _answer(connection: socket.socket, wanted: Callable[[], bool]) -> bytes:
    """All bytes that the scanner sends. Raises GivenUp, OSError."""
    answer = b""
    while len(answer) <= _MOST:
        if select.select([connection], [], [], _LOOK)[0]:
            piece = connection.recv(_MOST)
            if not piece:
                break
            answer += piece
        elif not wanted():
            raise GivenUp
    return answer
