"""What the supervisor knows of the parts, in a file that `status` and the metrics read."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

PLACE = Path("run/parts.json")  # below the data directory


class PartState(msgspec.Struct, frozen=True, kw_only=True):
    """A part at one moment."""

    restarts: int  # since the start of the instance
    silent_since: float | None  # seconds since the epoch: it runs, and does not answer


def write(data: Path, states: Mapping[str, PartState], *, group: int) -> None:
    """Replace the file, which the group may read. Raises OSError."""
    new = (data / PLACE).with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(states))
    shutil.chown(new, group=group)
    new.chmod(0o640)
    new.replace(data / PLACE)


def read(data: Path) -> Mapping[str, PartState]:
    """The states; none if there is no file, as on a node."""
    try:
        return msgspec.json.decode((data / PLACE).read_bytes(), type=dict[str, PartState])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
