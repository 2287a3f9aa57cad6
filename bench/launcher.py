"""What the launcher adds to a run: one container from start to removal, with and without it, alternately."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gridapps.sandbox.docker import DockerSandbox
from gridapps.sandbox.protocol import Sandbox
from gridapps.worker.collection import collect
from tests.fixtures.engine import Engine
from tests.fixtures.plain_registry import plain_registry
from tests.launcher.conftest import Launcher
from tests.sandbox.conftest import INPUT, SOCKET, Bench


def main() -> None:
    """Print the medians, and the memory of the idle launcher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    engine = Engine()
    with tempfile.TemporaryDirectory(prefix="launcher-") as place:
        top = Path(place)
        (top / "registry").mkdir()
        (top / "in.laz").write_bytes(INPUT)
        with plain_registry(top / "registry") as registry:
            digest = registry.move(engine, engine.image(command=["cat > /grid/x"]), "trivial")
            image = f"{registry.host}/trivial@{digest}"
            launcher = Launcher(top, registries=(registry.host,))
            launcher.start()
            direct = DockerSandbox(
                engine=SOCKET, instance="bench", scratch=top / "direct", quota="loop", runtime=""
            )
            with closing(direct), closing(launcher.connect()) as remote:
                direct.pull(image, token="", timeout=60)
                times = _in_turns([_cycle(each, image, top) for each in (direct, remote)], rounds)
            print(f"directly      {times[0] * 1000:7.1f} ms (median of {rounds})")
            print(f"by launcher   {times[1] * 1000:7.1f} ms")
            print(f"its memory    {_private(launcher) / 1024:7.1f} MB private")
            launcher.stop()
            engine.client.remove_image(image, force=True)
    engine.close()


def _cycle(sandbox: Sandbox, image: str, top: Path) -> Callable[[], None]:
    bench = Bench(sandbox, top / "in.laz")

    def once() -> None:
        name = bench.start(image)
        assert sandbox.wait(name, timeout=60) is not None
        bench.log(name)
        collect(sandbox.outputs(name), top / "files", max_files=100, max_bytes=10**6)
        sandbox.stop(name, grace=0)
        sandbox.remove(name)

    return once


def _in_turns(actions: list[Callable[[], None]], rounds: int) -> list[float]:
    """The median time of each, in seconds."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, found in zip(actions, times, strict=True):
            began = time.perf_counter()
            action()
            found.append(time.perf_counter() - began)
    return [statistics.median(found) for found in times]


def _private(launcher: Launcher) -> int:
    """Private memory of the process, in KiB."""
    assert launcher.process is not None
    lines = Path(f"/proc/{launcher.process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


if __name__ == "__main__":
    main()
