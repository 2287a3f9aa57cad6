"""The log of an attempt, copied out of the sandbox line by line while it runs, and read back for users."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

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
        self._target = target.open("w", encoding="utf-8", newline="\n")
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
                self._target.write(f"{item.at} {item.text}\n")
        self._target.flush()
        return latest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._target.close()


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
