"""The sandbox over the real engine: the contract, limits, and failures that only a real engine has."""

import socket
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from gridapps.sandbox.docker import DockerSandbox
from gridapps.sandbox.ending import judge
from gridapps.sandbox.protocol import (
    EngineUnavailable,
    EntryPoint,
    ImageUnavailable,
    Limits,
    NoSpace,
    SandboxError,
)
from tests.fixtures.engine import Engine
from tests.fixtures.leftovers import TEST_IMAGES
from tests.sandbox.conftest import LIMITS, MIB, SOCKET, Bench
from tests.sandbox.contract import SCRIPTS, SandboxContract

pytestmark = pytest.mark.service
Script = Callable[[str], str]


@pytest.fixture
def image(engine: Engine, script: Script) -> Callable[[str], str]:
    """The programs in SCRIPTS."""
    refused = engine.image(entrypoint=["/nothing"]) if engine else ""

    def reference(name: str) -> str:
        return refused if name == "refused" else script(SCRIPTS[name])

    return reference


@pytest.fixture
def spare(engine: Engine) -> str:
    return engine.image(command=[SCRIPTS["sleep"]])


class TestDocker(SandboxContract):
    """The suite over the engine."""


def test_the_sandbox_can_be_checked(docker_sandbox: DockerSandbox) -> None:
    docker_sandbox.check()


def test_the_sandbox_can_be_tried_out(docker_sandbox: DockerSandbox, engine: Engine) -> None:
    docker_sandbox.try_out()
    assert docker_sandbox.residents(labels={}) == []
    assert not [image for image in engine.client.images() if "gridapps-check" in str(image["RepoTags"])]


def test_a_trial_says_what_failed(engine: Engine, instance: str, tmp_path: Path) -> None:
    sandbox = DockerSandbox(
        engine=SOCKET, instance=instance, scratch=tmp_path / "s", quota="loop", runtime="no-such-runtime"
    )
    sandbox.check()
    with pytest.raises(SandboxError, match="no-such-runtime"):
        sandbox.try_out()
    assert sandbox.residents(labels={}) == []
    assert not [image for image in engine.client.images() if "gridapps-check" in str(image["RepoTags"])]


def test_what_workspaces_hold_is_known(bench: Bench, script: Script, docker_sandbox: DockerSandbox) -> None:
    before = docker_sandbox.held()
    name = bench.start(script("sleep 60"))
    held = docker_sandbox.held() - before
    assert LIMITS.disk // 2 < held <= LIMITS.disk * 2
    docker_sandbox.stop(name, grace=0)
    docker_sandbox.remove(name)
    assert docker_sandbox.held() == before


def test_a_second_worker_adopts_what_runs(
    bench: Bench, script: Script, instance: str, docker_sandbox: DockerSandbox
) -> None:
    name = bench.start(script("echo started >&2; sleep 1; echo done >&2; exit 4"))
    scratch = bench.outputs(name).parents[2]
    second = DockerSandbox(engine=SOCKET, instance=instance, scratch=scratch, quota="loop", runtime="")
    ended = second.wait(name, timeout=30)
    assert ended is not None
    assert ended.exit_code == 4
    assert Bench(second, bench.input).log(name) == ["started", "done"]
    second.remove(name)
    with pytest.raises(KeyError):
        bench.sandbox.wait(name, timeout=0)


def test_an_instance_does_not_see_the_containers_of_another(
    bench: Bench, script: Script, tmp_path: Path
) -> None:
    name = bench.start(script("sleep 60"))
    other = DockerSandbox(engine=SOCKET, instance="other", scratch=tmp_path / "o", quota="loop", runtime="")
    assert other.residents(labels={}) == []
    other.remove(name)
    assert bench.sandbox.wait(name, timeout=0) is None


def test_labels_of_an_image_count_for_nothing(bench: Bench, engine: Engine) -> None:
    labels = ['LABEL gridapps.labels=\'{"task":"9"}\' gridapps.instance=other task=9']
    name = bench.start(engine.image(command=["sleep 60"], changes=labels))
    (found,) = [resident for resident in bench.sandbox.residents(labels={}) if resident.name == name]
    assert found.labels == {"task": "1"}


ARM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00"  # the head of a program for aarch64


@pytest.mark.parametrize(
    ("entry_point", "file", "words"),
    [
        ("/nothing", None, "does not exist"),
        ("nothing", None, "does not exist"),
        ("/secret", (b"#!/bin/sh\n", 0o700), "everybody"),
        ("/bin/secret", (b"#!/bin/sh\n", 0o700), "everybody"),
        ("/plain", (b"#!/bin/sh\n", 0o644), "everybody"),
        ("/orphan", (b"#!/usr/bin/python3\n", 0o755), "interpreter"),
        ("/words", (b"echo hello\n", 0o755), "#! line"),
        ("/arm", (ARM, 0o755), "linux/amd64"),
        ("/bin", None, "everybody"),
        ("/bin/true/x", None, "not below a directory"),
    ],
)
def test_why_an_entry_point_did_not_start_is_said(
    bench: Bench, engine: Engine, entry_point: str, file: tuple[bytes, int] | None, words: str
) -> None:
    files = {} if file is None else {entry_point: file}
    ended = bench.run(engine.image(entrypoint=[entry_point], files=files)).ended
    assert repr(entry_point) in ended.not_started
    assert words in ended.not_started
    verdict = judge(ended, canceled=False, past_deadline=False, limits=LIMITS)
    assert (verdict.state, verdict.reason) == ("FAILURE", "image-refused")


@pytest.mark.parametrize(("changes", "words"), [(["VOLUME /data"], "/data"), (["VOLUME /grid/x"], "/grid/x")])
def test_an_image_with_a_volume_of_its_own_is_refused(
    bench: Bench, engine: Engine, changes: list[str], words: str
) -> None:
    launch = bench.launch(engine.image(command=["true"], changes=changes))
    with pytest.raises(ImageUnavailable, match=words):
        bench.sandbox.start(launch)


def test_entry_point_comes_from_the_push_and_not_from_the_engine(bench: Bench, engine: Engine) -> None:
    image = engine.image(entrypoint=["/bin/false"], changes=["ENV GIVEN=by-the-engine", "WORKDIR /etc"])
    recorded = EntryPoint(
        command=["/bin/sh", "-c", "pwd; echo $GIVEN $HOME $GRID_CPUS $OMP_NUM_THREADS"],
        workdir="/bin",
        environment=["GIVEN=by the push", "HOME=/root", "GRID_CPUS=99", "OMP_NUM_THREADS=7"],
    )
    assert bench.run(image, entry=recorded).stdout == "/bin\nby the push /tmp 1 7\n"


def test_an_image_without_entry_point_is_refused(bench: Bench, engine: Engine) -> None:
    with pytest.raises(ImageUnavailable, match="ENTRYPOINT"):
        bench.sandbox.start(bench.launch(engine.image(entrypoint=None, command=["/bin/true"])))


def test_an_image_whose_files_stand_in_the_way_is_refused_and_leaves_nothing(
    bench: Bench, engine: Engine
) -> None:
    launch = bench.launch(engine.image(command=["true"], files={"/grid": (b"a file", 0o644)}))
    with pytest.raises(ImageUnavailable, match="/grid"):
        bench.sandbox.start(launch)
    assert launch.name not in [resident.name for resident in bench.sandbox.residents(labels={})]


@pytest.mark.parametrize("target", ["../../../../../../../etc", "/proc/1/root/etc", "grid"])
@pytest.mark.parametrize("place", ["grid", "input", ".gridapps"])
def test_links_of_an_image_lead_no_mount_out_of_it(
    bench: Bench, engine: Engine, place: str, target: str
) -> None:
    link = tarfile.TarInfo(place)
    link.type, link.linkname = tarfile.SYMTYPE, target
    launch = bench.launch(engine.image(command=["echo ran > $GRID_OUTPUT/ran"], nodes=[link]))
    before = sorted(path.name for path in Path("/etc").iterdir())
    try:
        bench.sandbox.start(launch)
        bench.finish(launch.name)
    except ImageUnavailable:
        assert launch.name not in [resident.name for resident in bench.sandbox.residents(labels={})]
    assert sorted(path.name for path in Path("/etc").iterdir()) == before


def test_devices_of_an_image_that_got_past_the_push_open_nothing(bench: Bench, engine: Engine) -> None:
    """A push with devices is refused, but an older release may have some."""
    nodes = []
    for name, kind, major, minor in (("disk", tarfile.BLKTYPE, 8, 0), ("memory", tarfile.CHRTYPE, 1, 1)):
        node = tarfile.TarInfo(name)
        node.type, node.mode, node.devmajor, node.devminor = kind, 0o666, major, minor
        nodes.append(node)
    tries = "for f in /disk /memory; do test -e $f && ! head -c1 $f && echo $f >>$GRID_OUTPUT/denied; done"
    launch = bench.launch(engine.image(command=[tries], nodes=nodes))
    bench.sandbox.start(launch)
    bench.finish(launch.name)
    assert (bench.outputs(launch.name) / "denied").read_text() == "/disk\n/memory\n"


def test_an_image_with_too_long_an_environment_is_refused(bench: Bench, engine: Engine) -> None:
    container = engine.client.create_container(engine.image(command=["true"]), "")
    reference = f"{TEST_IMAGES}{uuid.uuid4().hex[:12]}"
    long = {"Env": ["LONG=" + "x" * 140_000], "Entrypoint": ["/bin/true"]}
    engine.client.commit(container["Id"], reference, conf=long)
    engine.client.remove_container(container["Id"])
    try:
        launch = bench.launch(reference)
        with pytest.raises(ImageUnavailable, match="ENV"):
            bench.sandbox.start(launch)
    finally:
        engine.client.remove_image(reference, force=True)


def test_memory_is_limited_and_the_reason_known(bench: Bench, script: Script) -> None:
    eat = "a=x; while true; do a=$a$a; done"
    ended = bench.run(script(eat), limits=_limits(memory=32 * MIB)).ended
    assert ended.out_of_memory
    assert ended.exit_code == 137
    assert judge(ended, canceled=False, past_deadline=False, limits=LIMITS).reason == "out-of-memory"


def test_a_child_killed_for_memory_is_not_the_program(bench: Bench, script: Script) -> None:
    eat = "sh -c 'a=x; while true; do a=$a$a; done'; echo still here; exit 0"
    result = bench.run(script(eat), limits=_limits(memory=32 * MIB))
    assert result.ended.out_of_memory
    assert result.ended.exit_code == 0
    assert result.stdout == "still here\n"
    assert judge(result.ended, canceled=False, past_deadline=False, limits=LIMITS).state == "SUCCESS"


@pytest.mark.parametrize("path", ["/tmp", "/dev/shm"])
def test_files_in_memory_count_against_it_and_the_reason_names_them(
    bench: Bench, script: Script, path: str
) -> None:
    limits = _limits(memory=32 * MIB)
    ended = bench.run(script(f"dd if=/dev/zero of={path}/x bs=1M count=64; exit 1"), limits=limits).ended
    assert ended.out_of_memory
    assert not ended.out_of_disk
    verdict = judge(ended, canceled=False, past_deadline=False, limits=limits)
    assert verdict.reason == "out-of-memory"
    assert f"at the end {path} held " in verdict.text
    assert ("$GRID_SCRATCH" in verdict.text) == (path == "/tmp")


def test_the_disk_is_limited_by_the_kernel_and_the_log_still_works(bench: Bench, script: Script) -> None:
    fill = "for i in a b; do cat /dev/zero > /grid/$i; done; echo 'it is full' >&2; sleep 0.3"
    fill += "; rm /grid/a /grid/b; exit 7"
    result = bench.run(script(fill))
    assert result.ended.out_of_disk
    assert result.log[-1] == "it is full"
    verdict = judge(result.ended, canceled=False, past_deadline=False, limits=LIMITS)
    assert (verdict.state, verdict.reason) == ("FAILURE", "out-of-disk")


def test_as_much_disk_as_promised_can_be_used(bench: Bench, script: Script) -> None:
    write = f"dd if=/dev/zero of=/grid/a bs=1M count={LIMITS.disk // MIB}"
    ended = bench.run(script(write)).ended
    assert ended.exit_code == 0
    assert LIMITS.disk <= ended.usage.disk_bytes < LIMITS.disk + MIB


def test_a_file_too_large_even_with_holes_is_out_of_disk(bench: Bench, script: Script) -> None:
    ended = bench.run(script("exec dd if=/dev/zero of=/grid/a bs=1 count=1 seek=1099511627776")).ended
    assert ended.exit_code != 0
    assert judge(ended, canceled=False, past_deadline=False, limits=LIMITS).reason == "out-of-disk"


def test_inodes_are_limited(bench: Bench, script: Script) -> None:
    make = "i=0; while touch /grid/$i; do i=$((i+1)); done; exit 1"
    result = bench.run(script(make), limits=_limits(inodes=200))
    assert result.ended.out_of_disk
    assert len(list(result.outputs.iterdir())) < 300


def test_standard_output_that_does_not_fit_is_no_success(bench: Bench, script: Script) -> None:
    result = bench.run(
        script("for i in a b; do cat /dev/zero > /grid/$i; done; dd if=/dev/zero bs=1M count=1; exit 0")
    )
    assert result.ended.exit_code == 0
    assert result.ended.output_dropped > 0
    assert judge(result.ended, canceled=False, past_deadline=False, limits=LIMITS).reason == "out-of-disk"


def test_processes_are_limited_and_the_reason_known(bench: Bench, script: Script) -> None:
    bomb = "i=0; while [ $i -lt 100 ]; do sleep 30 & i=$((i+1)); done; exit 1"
    ended = bench.run(script(bomb)).ended
    assert ended.out_of_processes
    assert judge(ended, canceled=False, past_deadline=False, limits=LIMITS).reason == "out-of-processes"


def test_what_a_program_leaves_running_ends_with_it(bench: Bench, script: Script) -> None:
    script_text = (
        "(trap '' TERM HUP; while true; do date > /grid/alive; sleep 0.02; done) & sleep 0.2; exit 0"
    )
    result = bench.run(script(script_text))
    first = (result.outputs / "alive").stat().st_mtime_ns
    time.sleep(0.2)
    assert (result.outputs / "alive").stat().st_mtime_ns == first


def test_usage_is_measured(bench: Bench, script: Script) -> None:
    result = bench.run(script("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"))
    assert result.ended.usage.cpu_seconds > 0.1
    assert 100_000 < result.ended.usage.memory_bytes < LIMITS.memory


def test_no_room_on_the_node_is_said_and_leaves_nothing(bench: Bench, script: Script) -> None:
    launch = bench.launch(script("true"), limits=_limits(disk=1 << 50))
    with pytest.raises(NoSpace, match="too full"):
        bench.sandbox.start(launch)
    assert launch.name not in [resident.name for resident in bench.sandbox.residents(labels={})]


def test_a_stale_container_without_workspace_gives_way(
    bench: Bench, script: Script, engine: Engine, instance: str
) -> None:
    launch = bench.launch(script("echo mine"))
    name = f"gridapps-{instance}-{launch.name}"
    engine.client.create_container_from_config({"Image": launch.image}, name)
    bench.sandbox.start(launch)
    assert bench.finish(launch.name).stdout == "mine\n"


def test_a_container_in_which_an_image_was_looked_at_goes_when_its_process_died(
    docker_sandbox: DockerSandbox,
    engine: Engine,
    script: Script,
    instance: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = {"gridapps.instance": instance, "gridapps.name": "check-1", "gridapps.labels": "{}"}
    image = script("true")
    made = engine.client.create_container_from_config({"Image": image, "Labels": labels}, "gridapps-check-1")
    assert docker_sandbox.residents(labels={}) == []
    assert engine.client.inspect_container(made["Id"]), "the check may still be running"
    monkeypatch.setattr("gridapps.sandbox.docker._CHECKED_WITHIN", -1.0)
    assert docker_sandbox.residents(labels={}) == []
    with pytest.raises(docker.errors.NotFound):
        engine.client.inspect_container(made["Id"])


def test_killed_from_outside_ends_without_a_report(
    bench: Bench, script: Script, engine: Engine, instance: str
) -> None:
    name = bench.start(script("echo forged > /.gridapps/run/status; sleep 60"))
    time.sleep(0.3)
    engine.client.kill(f"gridapps-{instance}-{name}")
    ended = bench.finish(name).ended
    assert ended.exit_code == 137
    assert not ended.out_of_memory


class Proxy:
    """A socket in front of the engine's, which can go away and come back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.up()

    def up(self) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        self._server.listen()
        self._pairs: list[socket.socket] = []
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def down(self) -> None:
        self.path.unlink()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for end in self._pairs:
            end.close()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect("/var/run/docker.sock")
            self._pairs += [client, engine]
            for source, target in ((client, engine), (engine, client)):
                threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path / "engine.sock")
    yield proxy
    proxy.down()


def test_an_engine_that_goes_and_comes_back(
    bench: Bench, script: Script, proxy: Proxy, instance: str
) -> None:
    name = bench.start(script("sleep 1; exit 6"))
    scratch = bench.outputs(name).parents[2]
    sandbox = DockerSandbox(
        engine=f"unix://{proxy.path}", instance=instance, scratch=scratch, quota="loop", runtime=""
    )
    assert sandbox.wait(name, timeout=0) is None
    proxy.down()
    for call in (
        sandbox.check,
        lambda: sandbox.start(bench.launch(script("true"))),
        lambda: sandbox.pull("any", token="", timeout=60),
        lambda: sandbox.stop(name, grace=0),
        lambda: sandbox.remove(name),
        lambda: sandbox.residents(labels={}),
    ):
        with pytest.raises(EngineUnavailable, match="does not answer"):
            call()
    assert Bench(sandbox, bench.input).outputs(name).is_dir()
    proxy.up()
    ended = sandbox.wait(name, timeout=30)
    assert ended is not None
    assert ended.exit_code == 6
    sandbox.remove(name)


def test_the_watchdog_ends_what_writes_too_much(
    bench: Bench, script: Script, instance: str, tmp_path: Path
) -> None:
    scratch = tmp_path / "plain"
    sandbox = DockerSandbox(engine=SOCKET, instance=instance, scratch=scratch, quota="watchdog", runtime="")
    plain = Bench(sandbox, bench.input)
    write = "i=0; while sleep 0.1; do i=$((i+1)); dd if=/dev/zero of=/grid/$i bs=1M count=4; done"
    try:
        ended = plain.run(script(write)).ended
    finally:
        plain.close()
    assert ended.exit_code == 137
    assert ended.out_of_disk
    assert list(scratch.iterdir()) == []


def _limits(**changes: int) -> Limits:
    values = {"cpus": 1, "memory": 96 * MIB, "disk": 24 * MIB, "inodes": 2000, "log": MIB}
    return Limits(**{**values, "processes": 40, **changes})
