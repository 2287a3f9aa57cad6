"""The measures: each compares the instance with the same work without it, alternately."""

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.clouds import sparse_cloud
from bench.stage import MIB, Stage, follow, follow_all, submit, timed
from tests.fixtures.pointclouds import write_pointcloud

# Reads its arguments, leaves one output, and does nothing else.
TRIVIAL = "cat > /grid/arguments.json"


@dataclass(frozen=True)
class Measured:
    """One line of the table. `holds` is whether the target is met; a line without a target has none."""

    name: str
    ours: str
    theirs: str
    ratio: float | None = None
    target: str = ""
    holds: bool | None = None


def latency(stage: Stage, rounds: int) -> Measured:
    """From POST to SUCCESS seen by a long-polling client, beside `docker run` of the same."""
    app, image = stage.app(TRIVIAL)
    file = write_pointcloud(stage.directory / "small.laz")
    export = stage.export(file)
    with stage.developer.client() as client:
        client.get("/api/v3/me")  # connect before the clock starts
        ours, theirs = _in_turns(
            lambda: follow(client, submit(client, app, export, {})),
            lambda: _docker_run(stage, image, file),
            rounds,
        )
    return _compared(f"POST to SUCCESS, median of {rounds}", ours, theirs, at_most=1.0, beside="docker run")


def burst(stage: Stage, runs: int, at_most: float = 0.9, by: str = "two slots") -> Measured:
    """Many runs queued at once on two slots, beside as many `docker run` two at a time."""
    app, image = stage.app(TRIVIAL)
    file = write_pointcloud(stage.directory / "burst.laz")
    export = stage.export(file)

    def ours() -> None:
        with stage.developer.client() as client:
            follow_all(client, [submit(client, app, export, {}) for _ in range(runs)])

    def theirs() -> None:
        command = " ".join(_docker_command(image, file))
        script = f"out=$(mktemp -d -p {stage.directory}); {command.replace('OUTPUT', '$out')} < /dev/null"
        subprocess.run(
            ["xargs", "-P2", "-I{}", "sh", "-c", script],
            input="\n".join(map(str, range(runs))), text=True, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    theirs_first, ours_time, theirs_last = timed(theirs), timed(ours), timed(theirs)
    beside = f"xargs -P2 docker run ({theirs_first:.1f} before, {theirs_last:.1f} after)"
    return _compared(
        f"{runs} runs queued at once, {by}",
        ours_time,
        (theirs_first + theirs_last) / 2,
        at_most=at_most,
        beside=beside,
    )


def input_size(stage: Stage, rounds: int) -> Measured:
    """A run over 2 GB, beside the same run over 2 MB."""
    app, _ = stage.app(TRIVIAL)
    large = stage.export(sparse_cloud(stage.directory / "large.las", size=2000 * MIB))
    small = stage.export(sparse_cloud(stage.directory / "small.las", size=2 * MIB))
    with stage.developer.client() as client:
        client.get("/api/v3/me")
        ours, theirs = _in_turns(
            lambda: follow(client, submit(client, app, large, {})),
            lambda: follow(client, submit(client, app, small, {})),
            rounds,
        )
    return _compared("a run over 2 GB", ours, theirs, at_most=1.1, beside="the same over 2 MB")


def download(stage: Stage, rounds: int) -> Measured:
    """An output of 500 MB with curl, beside a static file of the same nginx over the same TLS."""
    app, _ = stage.app("dd if=/dev/zero of=/grid/big.bin bs=1M count=500", disk=700 * MIB)
    export = stage.export(write_pointcloud(stage.directory / "download.laz"))
    with stage.developer.client() as client:
        run = submit(client, app, export, {})
        follow(client, run)
    static = stage.instance.data / "static" / "bench.bin"
    shutil.copyfile(next((stage.instance.data / "outputs" / run).rglob("big.bin")), static)
    static.chmod(0o644)
    output = f"{stage.instance.url}/api/v3/runs/{run}/outputs/0/big.bin"
    ours, theirs = _in_turns(
        lambda: _curl(stage, output), lambda: _curl(stage, f"{stage.instance.url}/static/bench.bin"), rounds
    )
    return Measured(
        "500 MB output, curl", f"{500 / ours:.0f} MB/s", f"{500 / theirs:.0f} MB/s, a static file of nginx",
        theirs / ours, "at least 0.80", theirs / ours >= 0.8,
    )  # fmt: skip


def idle(stage: Stage, seconds: float) -> list[Measured]:
    """Processor time and memory of an idle instance."""
    time.sleep(5)
    processes = stage.instance.processes()
    before = sum(map(_cpu_seconds, processes))
    time.sleep(seconds)
    share = (sum(map(_cpu_seconds, processes)) - before) / seconds
    memory = {_name(process): 0.0 for process in processes}
    for process in processes:
        memory[_name(process)] += _memory(process) / MIB
    parts = ", ".join(
        f"{name} {size:.0f}" for name, size in sorted(memory.items(), key=lambda part: -part[1])
    )
    total = sum(memory.values())
    return [
        Measured(
            f"idle for {seconds:.0f} s", f"{share:.2%}", "of one processor", None, "below 2 %", share < 0.02
        ),
        Measured("idle memory", f"{total:.0f} MB", f"{parts} (PSS)", None, "below 260 MB", total < 260),
    ]


def _in_turns(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians of both, after one round for warming up."""
    ours(), theirs()
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def _compared(name: str, ours: float, theirs: float, *, at_most: float, beside: str) -> Measured:
    ratio = ours / theirs
    return Measured(
        name, _shown(ours), f"{_shown(theirs)}, {beside}", ratio, f"at most {at_most:.2f}", ratio <= at_most
    )


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 2 else f"{seconds:.1f} s"


def _docker_command(image: str, file: Path) -> list[str]:
    """`docker run` with the mounts of the contract; OUTPUT stands for the output directory."""
    return [
        "docker", "run", "--rm", "-i", "--network", "none",
        "-v", f"{file}:/input/pointcloud.laz:ro", "-v", "OUTPUT:/grid", image,
    ]  # fmt: skip


def _docker_run(stage: Stage, image: str, file: Path) -> None:
    output = stage.directory / "docker-output"
    output.mkdir(exist_ok=True)
    command = [word.replace("OUTPUT", str(output)) for word in _docker_command(image, file)]
    subprocess.run(command, input=b"{}", check=True, stdout=subprocess.DEVNULL)


def _curl(stage: Stage, url: str) -> None:
    subprocess.run(
        ["curl", "--silent", "--fail", "--cacert", stage.instance.ca, "--output", "/dev/null",
         "--header", f"Authorization: Bearer {stage.developer.token}", url],
        check=True,
    )  # fmt: skip


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(process: int) -> int:
    """Proportional set size in bytes: shared pages count once over all processes."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))


def _name(process: int) -> str:
    command = Path(f"/proc/{process}/cmdline").read_bytes().decode().replace("\0", " ")
    if command.startswith("gridapps "):
        return command.split()[1]
    for name in ("launcher", "nginx", "registry"):
        if name in command:
            return name
    return command.split()[0]
