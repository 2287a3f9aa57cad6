"""Reading the report that init leaves at the end of a container.

The program can write to the file too, so a report counts only if it begins with a word that only init knows.
"""

import errno
import os
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_LARGEST = 4096


@dataclass(frozen=True, kw_only=True)
class Report:
    """What init observed. Times in UTC, sizes in bytes."""

    exit_code: int
    signal: int
    stage: str  # where the start failed: "none", "workdir", "exec", "interpreter", "identity"
    error: int  # errno of that failure
    started: datetime
    ended: datetime
    log_dropped: int
    output_dropped: int
    disk_full: bool
    oom_kills: int
    forks_refused: int
    cpu_seconds: float
    memory: int
    tmp: int  # bytes of files there at the end
    shm: int  # the same for /dev/shm
    asked: bool  # TERM came from outside the container


def read_report(path: Path, *, word: str) -> Report | None:
    """The report, or None unless init has written one."""
    lines = _read(path).decode("ascii", errors="replace").split("\n")
    if not word or lines[0] != word or lines[-2:] != ["end", ""]:
        return None
    facts = dict(line.split(" ", 1) for line in lines[1:-2])
    return Report(
        exit_code=int(facts["exit_code"]),
        signal=int(facts["signal"]),
        stage=facts["stage"],
        error=int(facts["error"]),
        started=datetime.fromisoformat(facts["started"]),
        ended=datetime.fromisoformat(facts["ended"]),
        log_dropped=int(facts["log_dropped"]),
        output_dropped=int(facts["output_dropped"]),
        disk_full=facts["disk_full"] == "1",
        oom_kills=int(facts["oom_kills"]),
        forks_refused=int(facts["forks_refused"]),
        cpu_seconds=int(facts["cpu_us"]) / 1e6,
        memory=int(facts["memory"]),
        tmp=int(facts.get("tmp", "0")),  # containers of an older version may still run
        shm=int(facts.get("shm", "0")),
        asked=facts["asked"] == "1",
    )


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _LARGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


_REASONS = {
    "ENOENT": "does not exist in the image",
    "EACCES": "cannot be executed by everybody (the program's user owns none of it): "
    "set r-x for others on it and on the directories above it",
    "ENOEXEC": "is neither a program for linux/amd64 nor a script with a #! line",
    "ENOTDIR": "is not below a directory",
    "ELOOP": "is a loop of symbolic links",
    "E2BIG": "has an argument list or environment that is too long",
}


def why_not_started(report: Report, *, entry_point: str, workdir: str) -> str:
    """Why the program was not started, as a sentence; "" if it was."""
    code = errno.errorcode.get(report.error, "")
    why = _REASONS.get(code, f"cannot be executed: {os.strerror(report.error)}")
    if report.stage == "interpreter":
        return (
            f"The entry point {entry_point!r} exists, but the interpreter of its #! line or its "
            "dynamic loader does not."
        )
    if report.stage == "exec":
        return f"The entry point {entry_point!r} {why}."
    if report.stage == "workdir":
        why = {"EACCES": "is closed to others (the program's user does not own it)"}.get(code, why)
        return f"The working directory {workdir!r} {why}."
    if report.stage == "identity":
        return "The image's /etc/group has a group named like the program's number: it would add others."
    return ""
