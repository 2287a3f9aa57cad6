"""The faults of hostile.c, and how the run of each ends. docs/hostile-apps.md describes them for readers."""

from dataclasses import dataclass

MIB = 1024**2
FOR_EVER = 5  # seconds of wall-clock time for programs that would never end


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, and what the user reads at its end. The sentence of the reason contains `words`. `time` (in
    seconds), `disk` and `memory` (in bytes) are the run's limits."""

    name: str
    state: str = "SUCCESS"
    reason: str | None = None
    words: str = ""
    exit_code: int | None = 0
    time: float = 60
    disk: int = 16 * MIB
    memory: int = 64 * MIB
    grace: float = 300  # further seconds that it may take on a busy machine

    @property
    def time_matters(self) -> bool:
        return self.time == FOR_EVER


def _never_ends(name: str, exit_code: int, words: str = "", *, memory: int = 64 * MIB) -> Fault:
    return Fault(
        name=name, state="FAILURE", reason="out-of-time", words=words, exit_code=exit_code, time=FOR_EVER,
        memory=memory,
    )  # fmt: skip


def _out_of(what: str, name: str, words: str, exit_code: int, *, time: float = 60) -> Fault:
    return Fault(
        name=name, state="FAILURE", reason=f"out-of-{what}", words=words, exit_code=exit_code, time=time
    )


def _incomplete(name: str, words: str, *, disk: int = 16 * MIB) -> Fault:
    return Fault(name=name, state="FAILURE", reason="outputs-incomplete", words=words, disk=disk)


_ALL = (
    # Memory for 256 processes, so that it reaches the limit on their number.
    _never_ends("fork-bomb", 143, "more than 256 processes", memory=256 * MIB),
    _out_of("processes", "fork-and-give-up", "more than 256", 1),
    Fault(name="leave-daemons"),
    _never_ends("ignore-term", 137),
    _never_ends("sleep-for-ever", 143),
    _never_ends("stop-itself", 137),
    _never_ends("spin", 143),
    Fault(name="attack-init", state="FAILURE", reason="program-failed", words="SIGKILL", exit_code=137),
    Fault(name="forge-queue", state="FAILURE", reason="program-failed", words="3", exit_code=3),
    Fault(name="forge-owner", state="FAILURE", reason="program-failed", words="3", exit_code=3),
    _out_of("disk", "forge-fill", "16 MiB", 3),
    _out_of("memory", "memory-bomb", "64 MiB", 137),
    Fault(name="memory-child"),
    _out_of("memory", "memory-memfd", "64 MiB", 137),
    _out_of("memory", "memory-tmp", "/tmp held", 137),
    _out_of("memory", "memory-shm", "/dev/shm held", 137),
    _out_of("memory", "memory-segments", "64 MiB", 137),
    _out_of("memory", "memory-pipes", "64 MiB", 137),
    _out_of("disk", "disk-grid", "16 MiB", 1),
    _out_of("disk", "disk-scratch", "16 MiB", 1),
    Fault(name="disk-root"),
    _out_of("disk", "million-files", "12250 files", 1, time=600),
    _out_of("disk", "sparse-file", "16 MiB", 153),
    Fault(name="log-flood", time=600),
    Fault(name="log-short-lines", time=600),
    Fault(name="log-long-line", time=600),
    _never_ends("log-for-ever", 143),
    _out_of("disk", "stdout-flood", "standard output", 0),
    Fault(name="log-bytes"),
    Fault(name="forged-progress", state="FAILURE", reason="program-failed", words="3", exit_code=3),
    _incomplete("links", "leads out of /grid"),
    Fault(name="special-files"),
    _incomplete("deep", "deeper than 128", disk=64 * MIB),
    _incomplete("names", "could not be kept"),
    Fault(name="closed"),
    Fault(name="changing"),
    Fault(name="write-input"),
    Fault(name="network"),
    Fault(name="kernel-files"),
    Fault(name="kernel-calls"),
    Fault(name="identity"),
    Fault(name="close-input"),
)
FAULTS = {fault.name: fault for fault in _ALL}
