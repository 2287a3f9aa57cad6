"""Reading layers in a separate process, with a limit on how many are read at a time.

Only one push of a developer is read at a time. Pushes of different developers are read in parallel, one for
each processor, at least two, so that one developer's layers do not block the others. Turns are file locks:
they apply to all processes of the application, and a process that ends releases its own.
"""

import base64
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from gridapps.access.models import User
from gridapps.oci import layer_reader
from gridapps.oci.documents import Invalid
from gridapps.oci.layer_contents import LayerContents
from gridapps.oci.layer_tree import TooLarge
from gridapps.pushes.registry_client import Unavailable

PATIENCE = 100.0  # seconds that a push waits for a reading slot
WAITING = 4  # pushes of one developer that are being read or wait
LONGEST = 160.0  # seconds for reading the layers of one push
_READER = [sys.executable, "-I", "-m", layer_reader.__name__]


@contextmanager
def slot(user: User) -> Iterator[None]:
    """Wait for a reading slot of the developer, and hold it. Raises Unavailable."""
    directory = settings.DATA / "run" / "reading"
    directory.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + PATIENCE
    seats = [directory / f"developer-{user.pk}-{number}" for number in range(WAITING)]
    slots = [directory / f"slot-{number}" for number in range(max(2, os.cpu_count() or 2))]
    with (
        _one_of(seats, until=0, otherwise=f"{WAITING} other images of yours are being read just now"),
        _one_of(
            [directory / f"developer-{user.pk}"], until=end, otherwise="Another image of yours is being read"
        ),
        _one_of(slots, until=end, otherwise="Other images are being read just now"),
    ):
        yield


@contextmanager
def _one_of(locks: list[Path], *, until: float, otherwise: str) -> Iterator[None]:
    """Hold one of the locks."""
    with contextlib.ExitStack() as opened:
        descriptors = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in locks]
        for descriptor in descriptors:
            opened.callback(_let_go, descriptor)
        pause = 0.02
        while not any(map(_locked, descriptors)):
            if time.monotonic() > until:
                raise Unavailable(f"{otherwise}; push again in a moment.")
            time.sleep(pause)
            pause = min(2 * pause, 0.2)
        yield


def _let_go(descriptor: int) -> None:
    """Unlock before closing: a process that another thread forks has a copy of the descriptor until exec."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class LayerReader:
    """A process that reads the layers of one push. A context manager: the process ends with the block."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            _READER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
            env={}, start_new_session=True,
        )  # fmt: skip
        self._timer = threading.Timer(LONGEST, self._process.kill)
        self._timer.daemon = True

    def __enter__(self) -> "LayerReader":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):  # data was buffered when the process ended
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()

    def examine(self, pieces: Iterable[bytes], *, max_size: int, max_files: int) -> LayerContents:
        """The same as `layer_contents.examine_layer`. After a refusal the reader cannot be used again.

        Raises TooLarge, Invalid, Unavailable, and whatever `pieces` raises.
        """
        asked = {"max_size": max_size, "max_files": max_files}
        with contextlib.suppress(BrokenPipeError):  # it has refused the layer already, or ended
            self._send(json.dumps(asked).encode() + b"\n", pieces)
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline() or "{}")
        if "diff_id" in answer:
            return LayerContents(**{**answer, "index": base64.b64decode(answer["index"])})
        if "too_large" in answer:
            raise TooLarge
        if "invalid" in answer:
            raise Invalid(answer["invalid"])
        raise self._ended()

    def _send(self, head: bytes, pieces: Iterable[bytes]) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(head)
        for piece in pieces:
            if piece:
                pipe.write(len(piece).to_bytes(4, "big") + piece)
        pipe.write(bytes(4))
        pipe.flush()

    def _ended(self) -> Exception:
        """The reason why there is no answer."""
        status = self._process.wait()
        if status in (-signal.SIGKILL, -signal.SIGXCPU):
            return Invalid(
                f"takes longer to read than the {LONGEST:.0f} s that this instance has for one push. Layers "
                "that were read are remembered: push again, or put less into this layer."
            )
        return Unavailable(f"The process that reads layers ended with {status}; push again in a moment.")
