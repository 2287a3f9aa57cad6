"""A time of day that a test sets, for the processes that are started with its environment."""

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


@dataclass(frozen=True)
class Clock:
    """clock.c, built in a directory of its own, and the file that it reads."""

    directory: Path

    @classmethod
    def build(cls, directory: Path) -> "Clock":
        """Compile it; the time is right at first."""
        new = cls(directory)
        library, file = (Path(path) for path in new.environment.values())
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        file.write_bytes(struct.pack("q", 0))
        return new

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": f"{self.directory}/clock.so", "AHEAD_FILE": f"{self.directory}/ahead"}

    def set(self, ahead: int) -> None:
        """Let the time of day be `ahead` seconds ahead, from now on."""
        with (self.directory / "ahead").open("r+b") as file:
            file.write(struct.pack("q", ahead))
