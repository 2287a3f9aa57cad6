"""The launcher process: what it gives up, and what outlives it and its worker."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridapps.launcher.confinement import NEEDED
from gridapps.sandbox.protocol import EngineUnavailable
from gridapps.worker.collection import collect
from tests.fixtures.engine import Engine
from tests.fixtures.plain_registry import plain_registry
from tests.launcher.conftest import OWNER, STRANGER, Launcher, as_account, open_to_all
from tests.sandbox.conftest import INPUT, Bench

pytestmark = pytest.mark.service


@pytest.fixture
def launcher(engine: Engine, tmp_path: Path) -> Iterator[Launcher]:
    open_to_all(tmp_path)
    launcher = Launcher(tmp_path, registries=("127.0.0.1:1",))
    yield launcher
    launcher.stop()
    assert not list((tmp_path / "inputs").glob("*"))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


@pytest.fixture
def pulled(engine: Engine, launcher: Launcher, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Start the launcher; returns the image of a script, which the engine has."""
    made = []
    (tmp_path / "registry").mkdir()
    with plain_registry(tmp_path / "registry") as registry:
        launcher.registries = (registry.host,)
        launcher.start()

        def image(script: str) -> str:
            digest = registry.move(engine, engine.image(command=[script]), "app")
            made.append(f"{registry.host}/app@{digest}")
            sandbox = launcher.connect()
            sandbox.pull(made[-1], token="", timeout=60)
            sandbox.close()
            return made[-1]

        yield image
        for each in made:
            engine.client.remove_image(each, force=True)


@pytest.fixture
def bench(launcher: Launcher, tmp_path: Path) -> Iterator[Bench]:
    source = tmp_path / "in.laz"
    source.write_bytes(INPUT)
    bench = Bench(launcher.connect(), source)
    yield bench
    bench.close()


def _starts(launcher: Launcher, source: Path, image: str) -> str:
    """A Python program that starts a container with the name in its argument."""
    top = Path.cwd()
    return f"""
import sys
sys.path[:0] = [{str(top)!r}, {str(top / "src")!r}]
from pathlib import Path
from gridapps.launcher.remote import RemoteSandbox
from tests.sandbox.conftest import Bench
bench = Bench(RemoteSandbox(Path({str(launcher.socket)!r}), connections=2), Path({str(source)!r}))
print("ready", flush=True)
bench.start({image!r}, name=sys.argv[1])
"""


def _status(process: int) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_it_keeps_few_capabilities_and_no_network(launcher: Launcher) -> None:
    launcher.start()
    assert launcher.process is not None
    status = _status(launcher.process.pid)
    mask = sum(1 << capability for capability in NEEDED)
    for capabilities in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[capabilities], 16) == mask, capabilities
    assert int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Umask"] == "0077"
    assert status["Groups"].strip() == ""
    devices = Path(f"/proc/{launcher.process.pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]


def test_a_second_one_does_not_start_beside_it(launcher: Launcher) -> None:
    launcher.start()
    assert launcher.process is not None
    arguments = Path(f"/proc/{launcher.process.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    second = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 1
    assert "serves" in second.stderr
    assert launcher.connect().version().startswith("docker")


def test_only_the_workers_account_may_connect(launcher: Launcher) -> None:
    launcher.start()
    sandbox = launcher.connect()
    with pytest.raises(EngineUnavailable, match="Permission denied"):
        as_account(STRANGER, sandbox.version)
    assert as_account(OWNER, sandbox.version).startswith("docker")


def test_containers_and_inputs_outlive_it(
    launcher: Launcher, bench: Bench, pulled: Callable[[str], str]
) -> None:
    name = bench.start(pulled("echo started >&2; sleep 3; cat /input/pointcloud.laz > /grid/copy; exit 4"))
    launcher.kill()
    with pytest.raises(EngineUnavailable, match=r"launcher.*does not answer"):
        bench.sandbox.wait(name, timeout=0)
    launcher.start()
    (resident,) = bench.sandbox.residents(labels={})
    assert resident.name == name
    result = bench.finish(name)
    assert result.ended.exit_code == 4
    assert result.log == ["started"]
    assert (result.outputs / "copy").read_bytes() == INPUT


def test_what_a_dead_launcher_left_attached_goes_with_the_next_look(
    launcher: Launcher, bench: Bench, pulled: Callable[[str], str], tmp_path: Path
) -> None:
    name = bench.start(pulled("sleep 60"))
    launcher.kill()
    subprocess.run(["mkdir", "-p", str(tmp_path / "inputs")], check=True)
    (tmp_path / "inputs" / "left-over").touch()
    subprocess.run(["mount", "--bind", str(bench.input), str(tmp_path / "inputs/left-over")], check=True)
    launcher.start()
    bench.sandbox.residents(labels={})
    assert [path.name for path in (tmp_path / "inputs").iterdir()] == [name]


def test_an_account_without_privileges_does_all_of_a_workers_work(
    launcher: Launcher, bench: Bench, pulled: Callable[[str], str], tmp_path: Path
) -> None:
    """Without root: an input that only the account may read, closed outputs, and a log."""
    image = pulled(
        "cat /input/pointcloud.laz > /grid/copy; mkdir /grid/d; echo deep > /grid/d/x; echo said >&2; "
        "chmod 000 /grid/copy /grid/d/x /grid/d"
    )
    own = tmp_path / "own"
    own.mkdir()
    source = own / "in.laz"
    source.write_bytes(INPUT)
    for path in (own, source):
        os.chown(path, OWNER, OWNER)
    source.chmod(0o444)
    own.chmod(0o700)

    def work() -> list[str]:
        name = bench.start(image, input=source)
        assert bench.sandbox.wait(name, timeout=60) is not None
        assert bench.log(name) == ["said"]
        found = collect(bench.sandbox.outputs(name), own / "outputs", max_files=100, max_bytes=10**6)
        bench.sandbox.remove(name)
        return [file.path for file in found.outputs]

    assert as_account(OWNER, work) == ["copy", "stdout.txt", "d/x"]
    assert (own / "outputs" / "copy").read_bytes() == INPUT


def test_an_input_of_another_mount_namespace_is_found_by_its_path(
    launcher: Launcher, pulled: Callable[[str], str], tmp_path: Path
) -> None:
    """A service manager may give the worker a mount namespace of its own."""
    source = tmp_path / "in.laz"
    source.write_bytes(INPUT)
    image = pulled("sleep 60")
    program = tmp_path / "start.py"
    program.write_text(_starts(launcher, source, image))
    command = ["unshare", "--mount", "--propagation", "slave", sys.executable, str(program)]
    sandbox = launcher.connect()
    try:
        done = subprocess.run([*command, "away"], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "inputs" / "away").read_bytes() == INPUT
        # A file that exists only in the sender's mount namespace is refused.
        hidden = ["sh", "-c", 'mount -t tmpfs none "$0" && cp "$1" "$0" && exec "$2" "$3" hidden']
        place = tmp_path / "own"
        place.mkdir()
        program.write_text(program.read_text().replace(str(source), str(place / "in.laz")))
        words = [*command[:4], *hidden, str(place), str(source), sys.executable, str(program)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode != 0
        assert "was not found here" in done.stderr
    finally:
        sandbox.remove("away")


def test_a_worker_that_is_killed_leaves_nothing_half_done(
    launcher: Launcher, bench: Bench, pulled: Callable[[str], str], tmp_path: Path
) -> None:
    """Its starts are completed; the next worker finds and removes the containers."""
    image = pulled("sleep 60")
    source = tmp_path / "in.laz"
    program = _starts(launcher, source, image)
    for number, pause in enumerate((0.0, 0.02, 0.05, 0.1, 0.3)):
        with subprocess.Popen(
            [sys.executable, "-c", program, f"killed-{number}"], stdout=subprocess.PIPE
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
            time.sleep(pause)
            worker.kill()
    end = time.monotonic() + 60
    while residents := bench.sandbox.residents(labels={}):
        assert time.monotonic() < end, residents
        for resident in residents:
            with contextlib.suppress(Exception):
                bench.sandbox.stop(resident.name, grace=0)
                bench.sandbox.remove(resident.name)
    assert not list((tmp_path / "scratch").iterdir())
