"""A system clock that a test sets, for processes that are started with its environment."""

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


@dataclass(frozen=True)
class Clock:
    """The library of clock.c, in a separate directory, and the file that it reads."""

    directory: Path

    @classmethod
    def build(cls, directory: Path) -> "Clock":
        """Compile the library. The time is correct at first."""
        new = cls(directory)
        library, file = (Path(path) for path in new.environment.values())
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        file.write_bytes(struct.pack("q", 0))
        return new

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": f"{self.directory}/clock.so", "AHEAD_FILE": f"{self.directory}/ahead"}

    def set(self, ahead: int) -> None:
        """Set the clock `ahead` seconds ahead of the real time."""
        with (self.directory / "ahead").open("r+b") as file:
            file.write(struct.pack("q", ahead))
