"""The client of the engine against the docker library as an independent peer, and against failing engines."""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from gridapps.sandbox.engine import image_calls, pulling
from gridapps.sandbox.engine.calls import Engine as Calls
from gridapps.sandbox.engine.client import Client, NoAnswer, read_lines
from gridapps.sandbox.engine.ongoing import OngoingPull
from gridapps.sandbox.protocol import EngineUnavailable, NameTaken, SandboxError
from tests.fixtures.engine import Engine
from tests.sandbox.conftest import SOCKET

Script = Callable[[str], str]


def _answer(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


VERSION = _answer(b'{"Version": "1", "ApiVersion": "1.41"}')
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Relay:
    """A TCP port in front of the engine's unix socket, or one that answers with fixed bytes."""

    def __init__(self, *answers: bytes) -> None:
        """Each connection gets the next answer and is then closed; an empty answer is never sent."""
        self._answers = list(answers)
        self._kept: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        for each in (self._listener, *self._kept):
            each.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._kept.append(client)
            if not self._answers:
                self._join(client)
                continue
            answer = self._answers.pop(0)
            if answer:
                with suppress(OSError):  # the client may have closed the connection
                    client.recv(65536)
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)

    def _join(self, client: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(SOCKET.removeprefix("unix://"))
        self._kept.append(engine)
        for source, target in ((client, engine), (engine, client)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def relay() -> Iterator[Callable[..., str]]:
    made: list[Relay] = []

    def address(*answers: bytes) -> str:
        made.append(Relay(*answers))
        return made[-1].address

    yield address
    for each in made:
        each.close()


@pytest.fixture(params=["unix", "tcp"])
def calls(request: pytest.FixtureRequest, engine: Engine, relay: Callable[..., str]) -> Calls:
    return Calls(SOCKET if request.param == "unix" else relay())


@pytest.mark.service
def test_what_is_read_is_what_the_docker_library_reads(calls: Calls, engine: Engine, script: Script) -> None:
    info, version = engine.client.info(), engine.client.version()
    assert calls.info().docker_root_dir == info["DockerRootDir"]
    assert calls.info().cgroup_driver == info["CgroupDriver"]
    assert calls.version() == version["Version"]
    reference = script("exit 7")
    image, peer = image_calls.describe(calls, reference), engine.client.inspect_image(reference)
    assert image is not None
    assert image.config is not None
    assert (image.id, image.size, image.os) == (peer["Id"], peer["Size"], "linux")
    assert image.root_fs.layers == peer["RootFS"]["Layers"]
    assert (image.config.entrypoint, image.config.cmd) == (["/bin/sh", "-c"], ["exit 7"])
    assert image_calls.describe(calls, "gridapps-test/never-made:1") is None


@pytest.mark.service
def test_what_is_done_is_seen_by_the_docker_library(calls: Calls, engine: Engine, script: Script) -> None:
    name, label = f"gridapps-test-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    configuration = {"Image": script("trap 'exit 7' TERM; while true; do sleep 0.05; done")}
    made = calls.create(name, {**configuration, "Labels": {"test": label}, "HostConfig": {}})
    try:
        with pytest.raises(NameTaken):
            calls.create(name, {**configuration, "HostConfig": {}})
        assert [found.id for found in calls.containers(label=f"test={label}")] == [made]
        calls.start(made)
        running, peer = calls.container(name), engine.client.inspect_container(made)
        assert running is not None
        assert (running.state.running, running.state.pid) == (True, peer["State"]["Pid"])
        time.sleep(0.3)
        calls.kill(name, "TERM")
        assert engine.client.wait(made)["StatusCode"] == 7
        calls.kill(name, "TERM")
        ended = calls.container(name)
        assert ended is not None
        assert (ended.state.running, ended.state.exit_code) == (False, 7)
        assert ended.state.started_at < ended.state.finished_at
        passwd, nothing = calls.stat(made, "/bin/sh"), calls.stat(made, "/nothing")
        assert passwd is not None
        assert passwd.link_target.endswith("busybox")
        assert nothing is None
    finally:
        for _ in range(2):
            calls.remove(name)
    assert calls.container(name) is None
    assert not engine.client.containers(all=True, filters={"label": [f"test={label}"]})


@pytest.mark.parametrize("answers", [(b"",), (_answer(b"", 503),), (VERSION, b""), (VERSION, CHUNKED)])
def test_silence_ends_within_the_time(relay: Callable[..., str], answers: tuple[bytes, ...]) -> None:
    calls = Calls(relay(*answers))
    calls.look = 0.5
    began = time.monotonic()
    with pytest.raises(EngineUnavailable, match="does not answer"):
        calls.info()
    assert time.monotonic() - began < 10


def test_a_pull_that_is_cut_off_is_no_success(relay: Callable[..., str]) -> None:
    step = b'{"status": "Downloading"}\r\n'
    client = Client(relay(VERSION, CHUNKED + b"%x\r\n%b\r\n" % (len(step), step)))
    read: list[bytes] = []

    def pull() -> None:
        with client.stream("POST", "/images/create", seconds=5) as response:
            read.extend(read_lines(response))

    with pytest.raises(NoAnswer):
        pull()
    assert read == [step.strip(b"\n")]


def test_an_answer_that_is_not_understood_is_named(relay: Callable[..., str]) -> None:
    with pytest.raises(SandboxError, match=r"GET /info .*DockerRootDir"):
        Calls(relay(VERSION, _answer(b'{"DockerRootDir": 7}'))).info()


@pytest.mark.parametrize("address", ["", "/var/run/docker.sock", "ssh://host:22", "tcp://host", "unix://"])
def test_an_address_that_leads_nowhere_is_said(address: str) -> None:
    with pytest.raises(EngineUnavailable, match="does not answer"):
        Calls(address).info()


def test_a_pull_of_an_engine_that_is_away_says_so(tmp_path: object) -> None:
    with pytest.raises(EngineUnavailable):
        pulling.pull(Calls(f"unix://{tmp_path}/none.sock"), "app@sha256:" + "0" * 64, OngoingPull(), token="")
