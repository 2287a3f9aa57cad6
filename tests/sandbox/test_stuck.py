"""A container that the engine cannot start, stop or remove: other containers work, and nothing starts later.

Such images are tried only on an engine of the test, whose memory is limited.
"""

import os
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from gridapps.sandbox import image_files
from gridapps.sandbox.docker import DockerSandbox
from gridapps.sandbox.engine.calls import Engine as Calls
from gridapps.sandbox.engine.presence import Presence
from gridapps.sandbox.protocol import ContainerStuck, ImageUnavailable
from tests.fixtures.engine import Engine
from tests.fixtures.own_engine import OwnEngine
from tests.sandbox.conftest import INPUT, MIB, Bench

pytestmark = pytest.mark.service
MEMORY = 1024 * MIB


@pytest.fixture(scope="module")
def limited(engine: Engine) -> Iterator[OwnEngine]:
    """A separate engine that may use 1 GiB of memory."""
    assert engine
    own = OwnEngine()
    group = _memory_group(own.directory.name)
    own.inside = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "limited")
    try:
        own.start()
        yield own
    finally:
        own.remove()
        for _ in range(100):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def _memory_group(name: str) -> Path:
    root = Path("/sys/fs/cgroup")
    old = root / "memory"
    group = (old if old.is_dir() else root) / f"test-{name}"
    group.mkdir()
    (group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(MEMORY))
    return group


@pytest.fixture
def there(limited: OwnEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A sandbox over that engine with short time limits."""
    monkeypatch.setattr(Calls, "act", 6)
    monkeypatch.setattr(Calls, "look", 3)
    source = tmp_path / "in.laz"
    source.write_bytes(INPUT)
    sandbox = DockerSandbox(
        engine=limited.address, instance=f"test-{uuid.uuid4().hex[:8]}", scratch=tmp_path / "scratch",
        quota="loop", runtime="",
    )  # fmt: skip
    bench = Bench(sandbox, source)
    yield bench
    bench.close()
    sandbox.close()


@pytest.fixture
def images(limited: OwnEngine) -> Iterator[Engine]:
    found = Engine()
    found.client.close()
    found.client = docker.APIClient(limited.address, timeout=30)
    yield found
    found.close()


def _node(path: str, kind: bytes, **more: object) -> tarfile.TarInfo:
    node = tarfile.TarInfo(path)
    node.type = kind
    for name, value in more.items():
        setattr(node, name, value)
    return node


def _large(path: str) -> dict[str, tuple[bytes, int]]:
    return {path: (b"x" * (2 * MIB), 0o644)}


HARMFUL = {
    "a named pipe": [_node("etc/passwd", tarfile.FIFOTYPE)],
    "a device that never ends": [_node("etc/group", tarfile.CHRTYPE, devmajor=1, devminor=5)],
    "a link to a pipe": [
        _node("other", tarfile.FIFOTYPE), _node("etc/passwd", tarfile.SYMTYPE, linkname="../other"),
    ],
    "links in a circle": [_node("etc/group", tarfile.SYMTYPE, linkname="group")],
    "a pipe for a directory": [_node("grid", tarfile.FIFOTYPE)],
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMFUL)
def test_an_image_that_would_hold_the_engine_is_refused_before_the_start(
    there: Bench, images: Engine, harm: str
) -> None:
    launch = there.launch(images.image(command=["true"], nodes=HARMFUL[harm]))
    with pytest.raises(ImageUnavailable, match="image"):
        there.sandbox.start(launch)
    assert there.sandbox.residents(labels={}) == []
    assert images.client.containers(all=True) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/group"])
def test_a_large_account_file_is_refused_unread(there: Bench, images: Engine, path: str) -> None:
    with pytest.raises(ImageUnavailable, match=path):
        there.sandbox.start(there.launch(images.image(command=["true"], files=_large(path))))


def test_a_large_file_behind_a_link_is_refused(there: Bench, images: Engine) -> None:
    image = images.image(
        command=["true"],
        files=_large("/other"),
        nodes=[_node("etc/group", tarfile.SYMTYPE, linkname="/other")],
    )
    with pytest.raises(ImageUnavailable, match="/etc/group"):
        there.sandbox.start(there.launch(image))


def test_ordinary_account_files_and_links_are_fine(there: Bench, images: Engine) -> None:
    image = images.image(
        command=["echo ran"],
        files={"/other": (b"root:x:0:0::/:/bin/sh\n", 0o644)},
        nodes=[_node("etc/passwd", tarfile.SYMTYPE, linkname="/other")],
    )
    assert there.run(image).stdout == "ran\n"


def test_a_start_that_never_ends_holds_nothing_else_and_starts_nothing_later(
    there: Bench, images: Engine, limited: OwnEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = images.image(command=["echo it ran; sleep 60"], nodes=[_node("etc/passwd", tarfile.FIFOTYPE)])
    launch = there.launch(image)
    with monkeypatch.context() as without:
        without.setattr(image_files, "check", lambda _: None)
        began = time.monotonic()
        with pytest.raises(ContainerStuck, match="engine answers"):
            there.sandbox.start(launch)
    name = launch.name
    try:
        there.sandbox.stop(name, grace=1)
        ended = there.sandbox.wait(name, timeout=1)
        assert ended is not None
        assert ended.interrupted
        assert time.monotonic() - began < 60
        assert there.run(images.image(command=["echo other"])).stdout == "other\n"
        assert name in [resident.name for resident in there.sandbox.residents(labels={})]
        with pytest.raises(ContainerStuck, match="none will start"):
            there.sandbox.remove(name)
        assert name in [resident.name for resident in there.sandbox.residents(labels={})]
    finally:
        _let_it_go(limited)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            there.sandbox.remove(name)
            break
        except ContainerStuck:
            time.sleep(0.5)
    assert name not in [resident.name for resident in there.sandbox.residents(labels={})]
    assert not [process for process in Path("/proc").glob("[0-9]*") if "it ran" in _command(process)]


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


def _let_it_go(limited: OwnEngine) -> None:
    """Write to the pipe that the engine is reading."""
    for pipe in limited.directory.glob("data/overlay2/*/merged/etc/passwd"):
        if pipe.is_fifo():
            try:
                descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue
            os.write(descriptor, b"root:x:0:0::/:/bin/sh\n")
            os.close(descriptor)


def test_what_runs_is_ended_although_the_engine_does_not_do_it(
    there: Bench, images: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log and outputs are kept, and init reports the end."""
    name = there.start(images.image(command=["trap '' TERM; echo kept; echo ready >&2; sleep 60"]))
    while "ready" not in there.log(name):
        time.sleep(0.05)
    sandbox = there.sandbox
    assert isinstance(sandbox, DockerSandbox)

    def stuck(*_: object) -> None:
        raise ContainerStuck("held")

    with monkeypatch.context() as held:
        held.setattr(sandbox._engine, "kill", stuck)
        sandbox.stop(name, grace=0.2)
    result = there.finish(name)
    assert result.ended.exit_code == 137
    assert result.stdout == "kept\n"


def test_an_engine_that_ends_and_comes_back_is_noticed_at_once(own_engine: OwnEngine) -> None:
    presence = Presence(own_engine.address)
    assert not presence.changed(timeout=0.5)
    own_engine.kill()
    began = time.monotonic()
    assert presence.changed(timeout=60)
    assert time.monotonic() - began < 45
    assert not presence.changed(timeout=0.2)
    own_engine.start()
    assert presence.changed(timeout=20)
    assert not presence.changed(timeout=0.5)
    presence.close()
