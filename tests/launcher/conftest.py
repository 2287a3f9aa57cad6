"""A launcher in a thread over the fake sandbox, and one as a process over the real engine."""

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from gridapps.launcher import channel
from gridapps.launcher.configuration import LauncherConfiguration
from gridapps.launcher.node_policy import Policy
from gridapps.launcher.remote import RemoteSandbox
from gridapps.launcher.server import Server
from gridapps.launcher.service import Service
from gridapps.sandbox.fake import FakeSandbox
from gridapps.sandbox.protocol import MAX_OUTPUTS
from tests.fixtures.ports import free_port
from tests.sandbox.conftest import INPUT, SOCKET, Bench
from tests.sandbox.test_fake import PROGRAMS

T = TypeVar("T")
OWNER = 64999  # the worker's account in these tests, without a name
STRANGER = 65534
GIB = 1024**3
CONNECTIONS = 40
CONTAINERS = 8
FAKE_REGISTRY = "127.0.0.1:5001"
_SETRESUID, _SETRESGID, _SETGROUPS = 117, 119, 116  # of x86-64; they change only the calling thread


def reference(program: str) -> str:
    """An image of the fake sandbox."""
    return f"{FAKE_REGISTRY}/{program}@sha256:{'0' * 64}"


def as_account(uid: int, action: Callable[[], T]) -> T:
    """Call it in a thread with this account and without root's capabilities."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        for call in ((_SETGROUPS, 0, None), (_SETRESGID, uid, uid, uid), (_SETRESUID, uid, uid, uid)):
            assert libc.syscall(*call) == 0
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(120)
    if errors:
        raise errors[0]
    return results[0]


@dataclass
class FakeLauncher:
    """A launcher in threads of this process, over the fake sandbox."""

    directory: Path
    sandbox: FakeSandbox
    socket: Path
    registries: tuple[str, ...]

    def connect(self) -> RemoteSandbox:
        return RemoteSandbox(self.socket, connections=CONNECTIONS)


def open_to_all(directory: Path) -> None:
    """Let other accounts enter a temporary directory."""
    for each in (directory, *directory.parents):
        if each.stat().st_uid == os.geteuid() and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o011)


@pytest.fixture
def fake_launcher(tmp_path: Path) -> Iterator[FakeLauncher]:
    if os.geteuid() != 0:
        pytest.skip("needs root: the launcher mounts inputs and gives files away")
    (tmp_path / "scratch").mkdir()
    open_to_all(tmp_path)
    sandbox = FakeSandbox(
        scratch=tmp_path / "scratch", programs={reference(name): run for name, run in PROGRAMS.items()}
    )
    policy = Policy(
        registries=(FAKE_REGISTRY, f"127.0.0.1:{free_port()}"),
        cpus=4,
        memory=GIB,
        disk=GIB,
        outputs=MAX_OUTPUTS,
        containers=CONTAINERS,
    )
    service = Service(sandbox, policy=policy, inputs=tmp_path / "inputs", owner=OWNER)
    path = tmp_path / "launcher.sock"
    server = Server(path, owner=OWNER, connections=CONNECTIONS, service=service)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield FakeLauncher(tmp_path, sandbox, path, policy.registries)
    server.close()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def fake_bench(fake_launcher: FakeLauncher, tmp_path: Path) -> Iterator[Bench]:
    """A worker's sandbox in front of the launcher."""
    source = tmp_path / "in.laz"
    source.write_bytes(INPUT)
    sandbox = fake_launcher.connect()
    bench = Bench(sandbox, source)
    yield bench
    bench.close()
    sandbox.close()
    assert not list((tmp_path / "inputs").glob("*"))


@dataclass
class Launcher:
    """A launcher process over the real engine."""

    directory: Path
    registries: tuple[str, ...]
    instance: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "launcher.sock"

    @property
    def log(self) -> Path:
        return self.directory / "launcher.log"

    def start(self) -> None:
        configuration = LauncherConfiguration(
            socket=str(self.socket),
            owner=OWNER,
            connections=CONNECTIONS,
            engine=SOCKET,
            instance=self.instance,
            scratch=str(self.directory / "scratch"),
            inputs=str(self.directory / "inputs"),
            quota="loop",
            runtime="",
            user_ids=(2_000_000_000, 2_000_065_535),
            registries=self.registries,
            cpus=4,
            memory=GIB,
            disk=GIB,
            outputs=MAX_OUTPUTS,
            containers=CONTAINERS,
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                configuration.command(sys.executable), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        sandbox = self.connect()
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(Exception):
                sandbox.version()
                break
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)
        sandbox.close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)

    def connect(self) -> RemoteSandbox:
        return RemoteSandbox(self.socket, connections=CONNECTIONS)


@pytest.fixture
def connection(fake_launcher: FakeLauncher) -> Iterator[socket.socket]:
    """A connection on which a test sends arbitrary messages."""
    with channel.new_socket() as connected:
        connected.connect(str(fake_launcher.socket))
        connected.settimeout(20)
        yield connected
