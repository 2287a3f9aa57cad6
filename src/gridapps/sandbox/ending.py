"""Judging an end: from the facts in `Ended` to a state, a reason and a sentence.

Only a program that failed gets a reason. A program that succeeds although a child of it was killed for memory
has not failed.
"""

import signal
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from gridapps.sandbox.protocol import Ended, Limits

# Why a task failed, as the container contract calls it.
Reason = Literal[
    "program-failed",
    "out-of-memory",
    "out-of-disk",
    "out-of-time",
    "out-of-processes",
    "image-refused",
    "input-unreadable",
    "canceled",
    "platform",
]

# What the program's last lines may explain.
OWN_FAILURES: Collection[Reason] = ("program-failed", "out-of-memory", "out-of-disk", "out-of-processes")


@dataclass(frozen=True)
class Verdict:
    """The state of a task, the reason ("" for success) and a sentence."""

    state: Literal["SUCCESS", "FAILURE", "CANCELED"]
    reason: Reason | Literal[""]
    text: str


_FILE_TOO_LARGE = 128 + signal.SIGXFSZ


def judge(ended: Ended, *, canceled: bool, past_deadline: bool, limits: Limits) -> Verdict:
    """The cause that explains the end best. `past_deadline`: it ended at or after its deadline."""
    if canceled:
        return Verdict("CANCELED", "canceled", "Canceled.")
    if ended.interrupted and not (past_deadline or ended.out_of_memory or ended.out_of_disk):
        return Verdict("FAILURE", "platform", "The container was ended from outside: its engine stopped.")
    if ended.not_started:
        return Verdict("FAILURE", "image-refused", ended.not_started)
    if past_deadline:
        seconds = max(0, round((ended.ended_at - ended.started_at).total_seconds()))
        text = f"Out of time: it was ended at its deadline, after {seconds} s.{_meanwhile(ended, limits)}"
        return Verdict("FAILURE", "out-of-time", text)
    if ended.output_dropped:
        text = f"Out of disk: {ended.output_dropped} bytes of standard output could not be kept within "
        return Verdict("FAILURE", "out-of-disk", f"{text}{_size(limits.disk)}.")
    if ended.exit_code == 0 and not ended.interrupted:
        return Verdict("SUCCESS", "", "")
    return _failure(ended, limits)


def _failure(ended: Ended, limits: Limits) -> Verdict:
    how = _how(ended.exit_code)
    if ended.interrupted and not (ended.out_of_memory or ended.out_of_disk):
        return Verdict("FAILURE", "platform", f"Ended from outside: the program {how}.")
    if ended.out_of_memory:
        text = f"Out of memory: its processes, /tmp and /dev/shm reached {_size(limits.memory)} together"
        text += f"{_in_memory(ended, limits)}; the program {how}. "
        text += f"Request more memory{_or_scratch(ended, limits)}."
        return Verdict("FAILURE", "out-of-memory", text)
    if ended.out_of_disk or ended.exit_code == _FILE_TOO_LARGE:
        text = (
            f"Out of disk: outputs and scratch files reached {_size(limits.disk)} or {limits.inodes} files; "
            f"the program {how}."
        )
        return Verdict("FAILURE", "out-of-disk", text)
    if ended.out_of_processes:
        text = f"Too many processes or threads: more than {limits.processes} at once; the program {how}."
        return Verdict("FAILURE", "out-of-processes", text)
    return Verdict("FAILURE", "program-failed", f"The program {how}.")


def _in_memory(ended: Ended, limits: Limits) -> str:
    """How much of the memory was in files at the end, unless it was little."""
    held = {"/tmp": ended.tmp_bytes, "/dev/shm": ended.shm_bytes}  # noqa: S108 - paths in the container
    parts = [f"{path} held {_size(count)}" for path, count in held.items() if _is_much(count, limits)]
    return f" (at the end {' and '.join(parts)})" if parts else ""


def _or_scratch(ended: Ended, limits: Limits) -> str:
    much = _is_much(ended.tmp_bytes, limits)
    return ", or write temporary files to $GRID_SCRATCH, which is on disk" if much else ""


def _is_much(count: int, limits: Limits) -> bool:
    return count > limits.memory // 10


def _meanwhile(ended: Ended, limits: Limits) -> str:
    """Which limits it had reached before its deadline: often they explain why it took so long."""
    met = {
        f"reached its memory of {_size(limits.memory)}": ended.out_of_memory,
        f"reached its disk of {_size(limits.disk)} or {limits.inodes} files": ended.out_of_disk,
        f"asked for more than {limits.processes} processes": ended.out_of_processes,
    }
    names = [name for name, was in met.items() if was]
    return f" It had {' and '.join(names)}." if names else ""


def _how(exit_code: int) -> str:
    if exit_code > 128:
        try:
            name = signal.Signals(exit_code - 128).name
        except ValueError:
            return f"ended with exit code {exit_code}"
        return f"ended with exit code {exit_code}, as after {name}"
    return f"ended with exit code {exit_code}"


def _size(count: int) -> str:
    """Bytes as people write them: "512 MiB"."""
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"
