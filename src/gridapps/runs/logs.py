"""The log of an attempt, copied out of the sandbox line by line while it runs, and read back for users."""

from collections.abc import Callable, Iterator
from pathlib import Path

from gridapps.sandbox.log import LogFollower, Progress


class LogRecorder:
    """Copies new lines of a container's log to the store, and picks the newest progress out of them.

    It starts from the beginning each time, so that a worker that takes over rewrites what its predecessor may
    have left half done.
    """

    def __init__(self, *, log: Callable[[], Path | None], target: Path, limit: int) -> None:
        """`limit`: bytes of the container's log that are looked at."""
        self._log = log
        self._limit = limit
        self._follower: LogFollower | None = None
        self._target = target
        self._size = 0
        self._new = b""
        target.write_bytes(b"")
        target.chmod(0o640)

    def record(self) -> Progress | None:
        """Copy what is new; return the newest progress in it, if any."""
        if self._follower is None:
            path = self._log()
            if path is None:
                return None
            self._follower = LogFollower(path, limit=self._limit)
        latest = None
        for item in self._follower.read():
            if isinstance(item, Progress):
                latest = item
            else:
                self._new += f"{item.at} {item.text}\n".encode()
        if self._new:
            self._write()
        return latest

    def _write(self) -> None:
        """Opened and closed each time: that is when a file server shows it to other machines.

        What a full disk took only half of is written again from where it began.
        """
        with self._target.open("r+b") as file:
            file.truncate(self._size)
            file.seek(self._size)
            file.write(self._new)
        self._size += len(self._new)
        self._new = b""


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Time and text of each line stored so far; nothing when there is no log yet."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                if line.endswith("\n"):
                    at, _, text = line[:-1].partition(" ")
                    yield at, text
    except FileNotFoundError:
        return
