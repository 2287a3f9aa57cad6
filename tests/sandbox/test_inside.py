"""What a program finds in its container: accounts, names, sizes, and files in memory and on disk."""

import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gridapps.sandbox.account_files import AccountFiles
from gridapps.sandbox.docker import DockerSandbox
from gridapps.sandbox.profile import _pools, environment
from gridapps.sandbox.protocol import EntryPoint, Launch, Limits
from gridapps.sandbox.workspace import USERS
from gridapps.worker.collection import MAX_DEPTH
from gridapps.worker.output_names import LONGEST_PATH
from tests.fixtures.engine import Engine
from tests.sandbox.conftest import LIMITS, Bench

Script = Callable[[str], str]
ACCOUNTS = "id -un; awk -F: -v u=$(id -u) '$3 == u {print $1, $6}' /etc/passwd; cat /etc/passwd /etc/group"


@pytest.mark.service
def test_the_user_has_a_name_and_a_home_in_an_image_without_accounts(bench: Bench, script: Script) -> None:
    lines = bench.run(script(ACCOUNTS)).stdout.splitlines()
    assert lines[:2] == ["grid", "grid /tmp"]
    assert len(lines) == 4, "an entry in each file"


@pytest.mark.service
def test_the_accounts_of_an_image_stay(bench: Bench, engine: Engine) -> None:
    """Also where they are links, and where the last line does not end."""
    files = {
        "/usr/accounts": (b"root:x:0:0::/root:/bin/sh\ngrid:x:7:7::/other:/bin/sh", 0o600),
        "/etc/group": (b"disk:x:6:grid\n", 0o644),
    }
    link = tarfile.TarInfo("etc/passwd")
    link.type, link.linkname = tarfile.SYMTYPE, "../usr/accounts"
    lines = bench.run(engine.image(command=[ACCOUNTS], files=files, nodes=[link])).stdout.splitlines()
    assert lines[:2] == ["grid", "grid /tmp"]
    assert lines[3] == "root:x:0:0::/root:/bin/sh"
    assert lines[4].startswith("grid:x:7:7::/other:/bin/shgrid:x:20"), "the next file, after no line feed"
    assert lines[5] == "disk:x:6:grid"


@pytest.mark.service
def test_an_entry_of_the_image_for_the_same_number_is_kept(
    bench: Bench, engine: Engine, docker_sandbox: DockerSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = USERS.start
    monkeypatch.setattr(docker_sandbox._starter, "_users", range(number, number + 1))
    passwd = f"app:x:{number}:{number}::/home/app:/bin/sh\n".encode()
    image = engine.image(command=[ACCOUNTS], files={"/etc/passwd": (passwd, 0o644)})
    assert bench.run(image).stdout.splitlines()[:2] == ["app", "app /home/app"]


@pytest.mark.service
def test_the_account_files_cannot_be_changed(bench: Bench, script: Script) -> None:
    files = "/etc/passwd /etc/group /etc/hosts"
    tries = "echo x >> $f || chmod 666 $f || rm $f || echo no"
    assert bench.run(script(f"for f in {files}; do {tries}; done")).stdout.split() == ["no"] * 3


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\0:::", b"x" * 1024**2, b":::\n" * 1000, b"root:x:0:0::/:\n"]
)
def test_account_files_of_an_image_are_not_trusted(content: bytes) -> None:
    merged = AccountFiles(passwd=content, group=content).with_user(2_000_000_007)
    assert merged.passwd == b"grid:x:2000000007:2000000007:GRiD App:/tmp:/bin/sh\n" + content
    assert merged.group == b"grid:x:2000000007:\n" + content


@pytest.mark.service
def test_localhost_has_an_address(bench: Bench, script: Script) -> None:
    """As `docker run --network none` has it; and the container's own name, which Java looks up."""
    lines = bench.run(script("cat /etc/hosts; cat /etc/hostname")).stdout.split()
    assert lines[:3] == ["127.0.0.1", "localhost", "grid"]
    assert "::1" in lines
    assert lines[-1] == "grid"


@pytest.mark.service
def test_shared_memory_is_as_large_as_the_memory(
    bench: Bench, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As multiprocessing, PyTorch's DataLoader and joblib use it. Also: many open files, epoll on the
    arguments, localhost."""
    program = tmp_path_factory.mktemp("inside") / "inside"
    subprocess.run(
        ["gcc", "-static", "-O1", "-o", str(program), str(Path(__file__).with_name("inside.c"))], check=True
    )
    image = engine.image(entrypoint=["/inside"], files={"/inside": (program.read_bytes(), 0o755)})
    result = bench.run(image, arguments=b'{"a": 1}')
    assert result.ended.exit_code == 0, result.stdout
    assert dict(line.split(" ", 1) for line in result.stdout.splitlines()) == {
        "shared-memory": "ok", "open-files": "ok", "epoll": "8", "resolve": "127.0.0.1",
    }  # fmt: skip


@pytest.mark.service
def test_scratch_is_on_disk_and_no_output(bench: Bench, script: Script) -> None:
    """It counts against the same limit as the outputs."""
    result = bench.run(
        script("cd $GRID_SCRATCH && dd if=/dev/zero of=a bs=1M count=8 && mv a /grid/b && echo moved")
    )
    assert result.stdout == "moved\n"
    result = bench.run(script("for i in 1 2; do cat /dev/zero > $GRID_SCRATCH/$i; done; exit 1"))
    assert result.ended.out_of_disk
    assert sorted(path.name for path in result.outputs.iterdir()) == ["stdout.txt"]


@pytest.mark.service
def test_the_program_may_change_the_mode_of_its_directories(bench: Bench, script: Script) -> None:
    result = bench.run(
        script("set -e; chmod 777 /grid; chmod 700 $GRID_SCRATCH; echo 1 > /grid/a; chmod 0 /grid")
    )
    assert result.ended.exit_code == 0, result.log
    assert (result.outputs / "a").read_text() == "1\n"


@pytest.mark.service
@pytest.mark.parametrize("name", ["pointcloud.las", "pointcloud.copc.laz", "pointcloud.laz"])
def test_the_input_has_its_true_name_and_the_fixed_one(bench: Bench, script: Script, name: str) -> None:
    result = bench.run(
        script("echo $GRID_INPUT; cd /input; ls; cmp $GRID_INPUT pointcloud.laz"), input_name=name
    )
    path, *names = result.stdout.split()
    assert path == f"/input/{name}"
    assert set(names) == {name, "pointcloud.laz"}
    assert result.ended.exit_code == 0


def test_the_page_of_the_contract_has_every_variable_and_limit(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "container-contract.md").read_text()
    variables = environment(_launch(tmp_path), _entry())
    assert [name for name in variables if f"`{name}`" not in page] == []
    assert f"`{variables['GRID_CONTRACT']}`" in page
    limits = Limits(cpus=1, memory=1, disk=1)
    for number in (limits.processes, limits.open_files, limits.inodes, LONGEST_PATH, MAX_DEPTH):
        assert f"{number:,} " in page, number


def _launch(directory: Path, *, cpus: float = 1) -> Launch:
    """A launch that is never started."""
    return Launch(
        name="x", image="x", arguments=b"{}", input=directory, input_name="pointcloud.las", run="1", task="1",
        limits=replace(LIMITS, cpus=cpus), deadline=datetime.now(UTC),
    )  # fmt: skip


def _entry(*variables: str) -> EntryPoint:
    return EntryPoint(command=["/x"], environment=[f"{name}=1" for name in variables])


@pytest.mark.parametrize(("cpus", "threads"), [(0.1, "1"), (1, "1"), (1.5, "2"), (2, "2")])
def test_pools_of_threads_follow_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: float, threads: str
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    pools = _pools(_launch(tmp_path, cpus=cpus), _entry())
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"} < set(pools)
    assert set(pools.values()) == {threads}


def test_an_image_that_sizes_a_pool_itself_keeps_that(tmp_path: Path) -> None:
    launch = _launch(tmp_path)
    assert "RAYON_NUM_THREADS" not in _pools(launch, _entry("RAYON_NUM_THREADS"))
    assert "OPENBLAS_NUM_THREADS" not in _pools(launch, _entry("OMP_NUM_THREADS")), "it reads that one"
    assert "RAYON_NUM_THREADS" in _pools(launch, _entry("OMP_NUM_THREADS"))


@pytest.mark.service
def test_the_environment_of_an_image_goes_before_the_sizes_of_pools(bench: Bench, engine: Engine) -> None:
    image = engine.image(
        command=["echo $OMP_NUM_THREADS/$MKL_NUM_THREADS/$GOMAXPROCS"], changes=["ENV OMP_NUM_THREADS=7"]
    )
    assert bench.run(image).stdout == "7//1\n"
