"""A compromised worker can make its calls, nothing else, and cannot block others."""

import contextlib
import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridapps.launcher import channel, messages
from gridapps.launcher.inputs import Inputs
from gridapps.launcher.remote import RemoteSandbox
from gridapps.oci.configurations import MAX_COMMAND
from gridapps.sandbox.profile import MAX_ENVIRONMENT
from gridapps.sandbox.protocol import EngineUnavailable, EntryPoint, ImageUnavailable, Limits, SandboxError
from tests.launcher.conftest import (
    CONNECTIONS,
    CONTAINERS,
    FAKE_REGISTRY,
    GIB,
    OWNER,
    STRANGER,
    FakeLauncher,
    as_account,
    open_to_all,
    reference,
)
from tests.sandbox.conftest import Bench

DIGEST = "@sha256:" + "0" * 64


def ask(connection: socket.socket, content: bytes, descriptors: list[int] | None = None) -> messages.Reply:
    """Send a message unchanged and read the reply."""
    channel.send(connection, content, descriptors or [])
    reply, passed = channel.receive(connection)
    channel.close(passed)
    return msgspec.json.decode(reply, type=messages.Reply)


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _closes_down_to(count: int) -> bool:
    """The launcher closes its descriptors shortly after its reply."""
    end = time.monotonic() + 20
    while _open_files() > count:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def start_message(**changes: Any) -> bytes:
    given = {
        "call": "start",
        "name": "try-1",
        "image": reference("sleep"),
        "input_name": "pointcloud.laz",
        "run": "run-1",
        "task": "task-1",
        "limits": {"cpus": 1, "memory": 1024**2, "disk": 1024**2, "log": 4096},
        "deadline": "2030-01-02T03:04:05Z",
        "labels": {"task": "1"},
        **changes,
    }
    return msgspec.json.encode(given)


@pytest.fixture
def sealed() -> Iterator[list[int]]:
    """The arguments, and what the image runs: unknown."""
    descriptors = [channel.memory_file(content) for content in (b"{}", b"null")]
    yield descriptors
    channel.close(descriptors)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "source.laz"
    path.write_bytes(b"LASF")
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"null",
        b"[]",
        b'"check"',
        b"{}",
        b'{"call": "exec"}',
        b'{"call": "Check"}',
        b'{"call": ["check"]}',
        b'{"call": "check", "privileged": true}',
        b'{"call": "version"}x',
        b'{"call": "pull", "image": "a", "token": "", "timeout": 1e9}',
        b'{"call": "pull", "image": 1, "token": "", "timeout": 1}',
        b'{"call": "pull", "image": "a", "token": "a b", "timeout": 1}',
        b'{"call": "pull", "image": "a", "token": "a\\r\\nX-Header: y", "timeout": 1}',
        b'{"call": "wait", "name": "a", "timeout": 61}',
        b'{"call": "wait", "name": "a", "timeout": -1}',
        b'{"call": "wait", "name": "a", "timeout": NaN}',
        b'{"call": "wait", "name": "a", "timeout": 1e999}',
        b'{"call": "wait", "name": "a", "timeout": "1"}',
        b'{"call": "wait", "name": null, "timeout": 1}',
        b'{"call": "stop", "name": "a", "grace": 1e9}',
        b'{"call": "residents", "labels": {"a": 1}}',
        b'{"call": "residents", "labels": {"a": "b\\u0000"}}',
        b'{"call": "residents", "labels": {' + b", ".join(b'"%d": "x"' % n for n in range(17)) + b"}}",
        b'{"call": "remove", "name": "' + b"a" * 300 + b'"}',
        b"\xff\xfe",
        b'{"call": "log", "name": "\xff"}',
        b"[" * 60000,
    ],
)
def test_a_malformed_message_is_refused_and_ends_the_conversation(
    connection: socket.socket, content: bytes
) -> None:
    reply = ask(connection, content)
    assert (reply.error, reply.text[:32]) == ("ValueError", "The launcher refused the message")
    assert is_closed(connection)


def test_a_message_that_is_too_long_is_refused_whole(connection: socket.socket) -> None:
    connection.sendmsg([b" " * (messages.LARGEST + 1)])
    reply = msgspec.json.decode(channel.receive(connection)[0], type=messages.Reply)
    assert "at most 65536 bytes" in reply.text
    assert is_closed(connection)


def test_too_many_descriptors_are_refused_and_closed(connection: socket.socket, source: int) -> None:
    before = _open_files()
    channel.send(connection, b'{"call": "check"}', [source] * 50)
    reply = msgspec.json.decode(channel.receive(connection)[0], type=messages.Reply)
    assert "3 descriptors" in reply.text
    assert is_closed(connection)
    assert _closes_down_to(before)


def test_a_call_that_takes_no_descriptor_gets_none(connection: socket.socket, source: int) -> None:
    assert ask(connection, b'{"call": "check"}').error == ""
    before = _open_files()
    assert "takes 0 descriptors" in ask(connection, b'{"call": "check"}', [source]).text
    assert _closes_down_to(before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "../escape"}, "valid container name"),
        ({"name": "a/b"}, "valid container name"),
        ({"name": ""}, "valid container name"),
        ({"name": "a\n"}, "valid container name"),
        ({"image": "busybox:1"}, "not named by digest"),
        ({"image": f"docker.io/library/busybox{DIGEST}"}, "not named by digest"),
        ({"image": f"{FAKE_REGISTRY}.evil.example/x{DIGEST}"}, "not named by digest"),
        ({"image": f"{FAKE_REGISTRY}/x:latest"}, "not named by digest"),
        ({"image": f"{FAKE_REGISTRY}/../x{DIGEST}"}, "not named by digest"),
        ({"image": f"{FAKE_REGISTRY}/x{DIGEST}\n"}, "not named by digest"),
        ({"image": f"127x0.0.1:5001/x{DIGEST}"}, "not named by digest"),
        ({"limits": {"cpus": 5, "memory": 1, "disk": 1}}, "cpus"),
        ({"limits": {"cpus": 0, "memory": 1, "disk": 1}}, "cpus"),
        ({"limits": {"cpus": -1, "memory": 1, "disk": 1}}, "cpus"),
        ({"limits": {"cpus": 1, "memory": 2 * GIB, "disk": 1}}, "memory"),
        ({"limits": {"cpus": 1, "memory": 1, "disk": 2 * GIB}}, "disk"),
        ({"limits": {"cpus": 1, "memory": 1, "disk": 1, "processes": 10**6}}, "processes"),
        ({"limits": {"cpus": 1, "memory": 1, "disk": 1, "open_files": 10**6}}, "open_files"),
        ({"limits": {"cpus": 1, "memory": 1, "disk": 1, "inodes": 10**9}}, "inodes"),
        ({"limits": {"cpus": 1, "memory": 1, "disk": 1, "log": 10**12}}, "log"),
        ({"limits": {"cpus": 1, "memory": 1}}, "disk"),
        ({"limits": {"cpus": 1, "memory": True, "disk": 1}}, "memory"),
        ({"input_name": "../x"}, "input_name"),
        ({"input_name": "a b"}, "input_name"),
        ({"run": "x\u0000y"}, "run"),
        ({"task": "a=b\nLD_PRELOAD=x"}, "task"),
        ({"deadline": "2030-01-02T03:04:05"}, "deadline"),
        ({"deadline": "tomorrow"}, "deadline"),
        ({"labels": {"a": "x" * 201}}, "labels"),
        ({"labels": {"": "x"}}, "labels"),
        ({"privileged": True}, "privileged"),
        ({"mounts": ["/:/host"]}, "mounts"),
        ({"input": "/etc/shadow"}, "input"),
    ],
)
def test_only_a_plain_start_is_one(
    fake_launcher: FakeLauncher, source: int, sealed: list[int], changes: dict[str, Any], words: str
) -> None:
    with channel.new_socket() as connection:
        connection.connect(str(fake_launcher.socket))
        reply = ask(connection, start_message(**changes), [source, *sealed])
    assert reply.error in ("ValueError", "ImageUnavailable")
    assert words in reply.text
    assert fake_launcher.sandbox.residents(labels={}) == []
    assert not list((fake_launcher.directory / "inputs").glob("*"))


def test_the_plain_start_of_these_tests_does_start(
    fake_launcher: FakeLauncher, connection: socket.socket, source: int, sealed: list[int]
) -> None:
    assert ask(connection, start_message(), [source, *sealed]).error == ""
    assert [resident.name for resident in fake_launcher.sandbox.residents(labels={})] == ["try-1"]
    assert ask(connection, b'{"call": "remove", "name": "try-1"}').error == ""


def _device() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def _directory() -> int:
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY)


def _pipe() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def _socket() -> int:
    return socket.socket(socket.AF_UNIX).detach()


def _path_only() -> int:
    return os.open("/etc/shadow", os.O_PATH)


def _writable(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize("make", [_device, _directory, _pipe, _socket, _path_only])
def test_an_input_is_a_regular_file_that_its_sender_could_read(
    fake_launcher: FakeLauncher,
    connection: socket.socket,
    sealed: list[int],
    make: Callable[[], int],
) -> None:
    descriptor = make()
    reply = ask(connection, start_message(), [descriptor, *sealed])
    os.close(descriptor)
    assert reply.error == "ValueError"
    assert "input" in reply.text
    assert not list((fake_launcher.directory / "inputs").glob("*"))


def test_an_input_is_not_opened_for_writing(
    connection: socket.socket, sealed: list[int], tmp_path: Path
) -> None:
    descriptor = _writable(tmp_path / "x")
    assert "opened for reading only" in ask(connection, start_message(), [descriptor, *sealed]).text
    os.close(descriptor)


def test_an_input_cannot_be_written_through_its_mount(
    fake_launcher: FakeLauncher, connection: socket.socket, source: int, sealed: list[int]
) -> None:
    assert ask(connection, start_message(), [source, *sealed]).error == ""
    place = fake_launcher.directory / "inputs" / "try-1"
    assert place.read_bytes() == b"LASF"
    with pytest.raises(OSError, match="Read-only"):
        place.write_bytes(b"x")
    (options,) = [
        line.split()[3] for line in Path("/proc/mounts").read_text().splitlines() if str(place) in line
    ]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options.split(","))
    assert ask(connection, b'{"call": "remove", "name": "try-1"}').error == ""
    assert not place.exists()


def test_arguments_are_sealed_and_bounded(connection: socket.socket, source: int, sealed: list[int]) -> None:
    plain = os.memfd_create("plain", os.MFD_ALLOW_SEALING)
    os.write(plain, b"{}")
    assert "sealed memory file" in ask(connection, start_message(), [source, plain, sealed[1]]).text
    assert "sealed memory file" in ask(connection, start_message(), [source, source, sealed[1]]).text
    fcntl.fcntl(plain, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    assert "sealed memory file" in ask(connection, start_message(), [source, plain, sealed[1]]).text
    os.close(plain)
    large = channel.memory_file(bytes(messages.MAX_ARGUMENTS + 1))
    assert "limit is 1048576" in ask(connection, start_message(), [source, large, sealed[1]]).text
    os.close(large)


def test_arguments_of_the_largest_size_arrive(fake_bench: Bench) -> None:
    given = b'"' + b"x" * (messages.MAX_ARGUMENTS - 2) + b'"'
    assert fake_bench.run(reference("copy"), arguments=given).stdout == given.decode()


def test_an_entry_point_of_the_largest_size_arrives(fake_bench: Bench) -> None:
    most = EntryPoint(command=["\x01" * MAX_COMMAND], environment=["A=" + "\x01" * MAX_ENVIRONMENT])
    assert fake_bench.run(reference("copy"), entry=most).ended.exit_code == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{}", "command"),
        (b'{"command": []}', "has a command"),
        (b'{"command": ["/a"], "workdir": "etc"}', "absolute path"),
        (b'{"command": ["/a\\u0000"]}', "NUL"),
        (b'{"command": ["/a"], "environment": ["A=\\u0000"]}', "NUL"),
        (b'{"command": "/a"}', "array"),
        (b"[", "got `array`"),
        (b"{", "truncated"),
        (b'{"command": ["' + b"x" * messages.MAX_ENTRY + b'"]}', "limit is 1048576"),
    ],
)
def test_invalid_entry_points_are_refused(
    connection: socket.socket, source: int, sealed: list[int], content: bytes, words: str
) -> None:
    entry = channel.memory_file(content)
    assert words in ask(connection, start_message(), [source, sealed[0], entry]).text
    os.close(entry)


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "a/../b", "", ".", "..", "try\u0000"])
@pytest.mark.parametrize("call", ["log", "outputs", "remove", "stop", "wait"])
def test_a_name_is_no_path(fake_launcher: FakeLauncher, call: str, name: str) -> None:
    sandbox = fake_launcher.connect()
    calls: dict[str, Callable[[], object]] = {
        "log": lambda: sandbox.log(name),
        "outputs": lambda: sandbox.outputs(name),
        "remove": lambda: sandbox.remove(name),
        "stop": lambda: sandbox.stop(name, grace=0),
        "wait": lambda: sandbox.wait(name, timeout=0),
    }
    if call in ("outputs", "wait"):
        with pytest.raises(KeyError):
            calls[call]()
    else:
        assert calls[call]() is None
    sandbox.close()


def test_images_of_others_are_out_of_reach(fake_launcher: FakeLauncher) -> None:
    """The engine may have other users, whose images cannot be described, dropped or pulled here."""
    sandbox = fake_launcher.connect()
    other = f"docker.io/library/postgres{DIGEST}"
    fake_launcher.sandbox.sizes[other] = {"layer": 7}
    assert sandbox.layers(other) is None
    assert sandbox.drop(other)
    with pytest.raises(ImageUnavailable, match="not named by digest"):
        sandbox.pull(other, token="", timeout=60)
    assert not fake_launcher.sandbox.pulled
    sandbox.close()


def test_outputs_are_given_after_the_end(fake_bench: Bench) -> None:
    name = fake_bench.start(reference("sleep"))
    with pytest.raises(SandboxError, match="still runs"):
        fake_bench.sandbox.outputs(name)


def test_containers_without_end_stop_at_a_number(fake_bench: Bench) -> None:
    names = [fake_bench.start(reference("sleep")) for _ in range(CONTAINERS)]
    with pytest.raises(SandboxError, match=f"already has {CONTAINERS} containers"):
        fake_bench.start(reference("sleep"))
    fake_bench.sandbox.remove(names[0])
    assert fake_bench.run(reference("fail")).ended.exit_code == 3


def test_where_all_is_one_account_inputs_stay_where_they_are(tmp_path: Path) -> None:
    """An instance that root did not start cannot mount, and worker and launcher have one account."""
    source = tmp_path / "in.laz"
    source.write_bytes(b"LASF")
    open_to_all(tmp_path)
    source.chmod(0o644)

    def attach() -> Path:
        descriptor = os.open(source, os.O_RDONLY)
        try:
            inputs = Inputs(tmp_path / "inputs")
            place = inputs.attach("try-1", descriptor)
            inputs.detach("try-1")
            assert inputs.names() == []
            return place
        finally:
            os.close(descriptor)

    assert as_account(OWNER, attach) == source


def test_a_stranger_is_refused(fake_launcher: FakeLauncher) -> None:
    sandbox = fake_launcher.connect()
    with pytest.raises(EngineUnavailable, match="Permission denied"):
        as_account(STRANGER, sandbox.version)
    # Even if the mode of the socket allows a connection, the credentials are refused.
    fake_launcher.socket.chmod(0o666)
    with pytest.raises(EngineUnavailable, match="does not answer"):
        as_account(STRANGER, sandbox.version)
    assert as_account(OWNER, sandbox.version) == "fake 1"
    sandbox.close()


def test_connections_without_end_stop_at_a_number_and_starve_nobody_for_good(
    fake_launcher: FakeLauncher,
) -> None:
    sandbox = fake_launcher.connect()
    with contextlib.ExitStack() as opened:
        for _ in range(3 * CONNECTIONS):
            connection = opened.enter_context(channel.new_socket())
            with contextlib.suppress(OSError):
                connection.connect(str(fake_launcher.socket))
        threads = [thread for thread in threading.enumerate() if "_converse" in thread.name]
        assert len(threads) <= CONNECTIONS
        with pytest.raises(EngineUnavailable):
            sandbox.version()
    assert _soon(sandbox) == "fake 1"
    sandbox.close()


def _soon(sandbox: RemoteSandbox) -> str:
    for _ in range(100):
        with contextlib.suppress(EngineUnavailable):
            return sandbox.version()
        time.sleep(0.05)
    raise AssertionError("no connection came free")


def test_silence_and_unread_replies_hold_up_nobody(fake_launcher: FakeLauncher) -> None:
    with channel.new_socket() as silent, channel.new_socket() as deaf:
        for each in (silent, deaf):
            each.connect(str(fake_launcher.socket))
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(10_000):
                deaf.send(b'{"call": "version"}')
        sandbox = fake_launcher.connect()
        assert sandbox.version() == "fake 1"
        sandbox.close()


def test_a_call_that_hangs_holds_up_no_other(
    fake_launcher: FakeLauncher, fake_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine hangs on one container: others are started, stopped and removed."""
    hanging, released = threading.Event(), threading.Event()
    start = fake_launcher.sandbox.start

    def stuck(launch: Any) -> None:
        if launch.name == "stuck":
            hanging.set()
            released.wait(60)
        start(launch)

    monkeypatch.setattr(fake_launcher.sandbox, "start", stuck)
    sandbox = fake_bench.sandbox
    first = threading.Thread(target=lambda: sandbox.start(fake_bench.launch(reference("fail"), name="stuck")))
    first.start()
    assert hanging.wait(10)
    assert fake_bench.run(reference("fail")).ended.exit_code == 3
    # A worker that restarts meanwhile waits for the start, and removes nothing during it.
    assert sandbox.wait("stuck", timeout=0.1) is None
    for refused in (lambda: sandbox.remove("stuck"), lambda: sandbox.stop("stuck", grace=0)):
        with pytest.raises(SandboxError, match="being started"):
            refused()
    released.set()
    first.join(20)
    assert fake_bench.finish("stuck").ended.exit_code == 3


def test_the_largest_reply_arrives(fake_bench: Bench, fake_launcher: FakeLauncher) -> None:
    sizes = {f"{number:064}": number for number in range(5000)}
    fake_launcher.sandbox.sizes[reference("copy")] = sizes
    assert fake_bench.sandbox.layers(reference("copy")) == sizes


def test_limits_of_the_contract_are_the_largest(fake_bench: Bench) -> None:
    most = Limits(cpus=4, memory=GIB, disk=GIB, log=GIB)
    assert fake_bench.run(reference("fail"), limits=most).ended.exit_code == 3


def test_nothing_stays_open(fake_bench: Bench) -> None:
    fake_bench.run(reference("copy"))
    before = _open_files()
    for _ in range(5):
        fake_bench.run(reference("copy"))
    assert _closes_down_to(before)


def test_more_waits_than_connections_take_turns(fake_bench: Bench) -> None:
    name = fake_bench.start(reference("sleep"))
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(fake_bench.sandbox.wait(name, timeout=0.05)))
        for _ in range(3 * CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [None] * len(threads)


_CALLS = st.sampled_from([tag.__name__.lower() for tag in messages.Message.__subclasses__()])
_FIELDS = (
    "name",
    "image",
    "token",
    "input_name",
    "run",
    "task",
    "limits",
    "deadline",
    "labels",
    "timeout",
    "grace",
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
_MESSAGES = st.builds(
    lambda call, fields: msgspec.json.encode({"call": call, **fields}),
    _CALLS,
    st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=8),
)


@given(content=st.binary(min_size=1, max_size=200) | _MESSAGES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_message_is_a_surprise(fake_launcher: FakeLauncher, content: bytes) -> None:
    """Any message is carried out or refused with a known error."""
    with channel.new_socket() as connection:
        connection.connect(str(fake_launcher.socket))
        reply = ask(connection, content)
    assert reply.error in ("", "ValueError", "KeyError", "ImageUnavailable")
    assert "failed with" not in reply.text
