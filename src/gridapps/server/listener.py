"""A node's connection to the broker: a Celery worker as a child process of the node's worker.

A separate process keeps its failures from the runs, and Celery's tools find a worker on each node.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from types import TracebackType
from typing import Self

from gridapps.processes import privileges

logger = logging.getLogger(__name__)

PAUSES = (1.0, 30.0)  # seconds before the first and, doubled each time, at most before the next restart
LIVED = 60.0  # seconds of life after which the pause is reset


class Listener:
    """Keeps the child running from `with` to its end."""

    def __init__(self, *, node: str) -> None:
        self._node = node
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="listener")
        self._child: subprocess.Popen[bytes] | None = None

    def _keep(self) -> None:
        # The child receives its parent-death signal when this thread ends, not the process.
        pause = PAUSES[0]
        while not self._stopping.is_set():
            command = [sys.executable, "-P", "-m", "gridapps.server.listener", self._node, str(os.getpid())]
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            try:
                self._child.wait(timeout=LIVED)
                pause = min(2 * pause, PAUSES[1])
            except subprocess.TimeoutExpired:
                pause = PAUSES[0]
                self._child.wait()
            if not self._stopping.is_set():
                logger.warning("The listener at the broker ended with %s.", self._child.returncode)
                self._stopping.wait(pause)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._child is not None:
            # It holds no work.
            self._child.kill()
        self._thread.join()


def listen(*, node: str, parent: int) -> None:
    """Run the Celery worker of this node until the parent ends."""
    privileges.end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        return
    from gridapps.config.celery import app

    # The warning concerns pickled messages, which this worker does not accept.
    warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")
    lean = ["--pool=solo", "--without-mingle", "--without-gossip", "--loglevel=WARNING"]
    app.worker_main(["--quiet", "worker", f"--hostname=gridapps@{node}", *lean])


if __name__ == "__main__":
    listen(node=sys.argv[1], parent=int(sys.argv[2]))
