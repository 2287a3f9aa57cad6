"""The process tree: order, readiness, restart, and a stop that leaves no process, even after kill -9."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import msgspec
import pytest

from gridapps.processes import part_states
from gridapps.server import part_watch, supervise
from gridapps.server.plan import Asks, Listens, Makes, PlannedPart, Program
from gridapps.server.supervise import NotStarted, Supervisor, end_leftovers

PROGRAM = """
import pathlib, signal, sys
name, home = sys.argv[1], pathlib.Path(sys.argv[2])
def note(what):
    with (home / "journal").open("a") as journal:
        journal.write(f"{what} {name}\\n")
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
note("start")
(home / name).touch()
signal.sigwait({signal.SIGTERM})
note("stop")
"""


@pytest.fixture(autouse=True)
def directories(tmp_path):
    """The directories of an instance that the supervisor writes to."""
    for name in ("log", "run"):
        (tmp_path / name).mkdir()


def part(name: str, home: Path, program: str = PROGRAM) -> PlannedPart:
    return PlannedPart(
        name=name,
        runs=Program(command=[sys.executable, "-c", program, name, str(home)], environment=dict(os.environ)),
        ready=Makes(str(home), name),
        account=None,
    )


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_part_that_is_not_ready_in_time_is_said_to_be_late(tmp_path):
    (tmp_path / "log" / "late.log").write_text("of an earlier start\n")
    late = part("late", tmp_path, "import time; time.sleep(600)")
    supervisor = Supervisor(parts=[late], data=tmp_path, say=print, start_patience=2.5)
    with pytest.raises(NotStarted, match=r"^late was not ready within 2\.5 s, and was stopped\.") as caught:
        supervisor.start()
    assert "It logged nothing" in str(caught.value)
    assert [child.runs for child in supervisor.children] == [False]


def test_parts_start_in_order_and_stop_in_the_opposite_one(tmp_path):
    supervisor = Supervisor(parts=[part(n, tmp_path) for n in "abc"], data=tmp_path, say=print)
    supervisor.start()
    supervisor.stop()
    supervisor.watch()
    expected = "start a, start b, start c, stop c, stop b, stop a"
    assert (tmp_path / "journal").read_text().strip().replace("\n", ", ") == expected


def test_a_part_that_does_not_start_stops_the_others_and_shows_its_log(tmp_path):
    good = part("good", tmp_path)
    bad = part("bad", tmp_path, "import sys; sys.exit('no such luck')")
    supervisor = Supervisor(parts=[good, bad], data=tmp_path, say=print)
    (tmp_path / "log" / "bad.log").write_text("of an earlier start\n")
    with pytest.raises(NotStarted, match=r"bad ended with 1 before it was ready\. What it") as caught:
        supervisor.start()
    assert str(caught.value).endswith("log/bad.log):\nno such luck")
    assert [child.runs for child in supervisor.children] == [False, False]
    assert supervisor.children[0].status == 0


def test_a_part_that_dies_is_started_again(tmp_path):
    one = part("one", tmp_path)
    said: list[str] = []
    supervisor = Supervisor(parts=[one], data=tmp_path, say=said.append)
    supervisor.start()
    watcher = threading.Thread(target=supervisor.watch)
    watcher.start()
    try:
        (child,) = supervisor.children
        first = child.pid
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: child.pid != first and child.status is None)
        assert "one ended with -9" in said[0]
    finally:
        supervisor.stop()
        watcher.join()


def test_a_part_that_ignores_the_request_is_killed(tmp_path):
    deaf = PROGRAM.replace("signal.sigwait({signal.SIGTERM})", "signal.pause()")
    supervisor = Supervisor(parts=[part("one", tmp_path, deaf)], data=tmp_path, say=print, patience=1.5)
    supervisor.start()
    supervisor.shut_down()
    assert supervisor.children[0].status == -signal.SIGKILL


def test_children_end_with_a_supervisor_that_was_killed(tmp_path):
    script = textwrap.dedent(f"""
        import os, pathlib, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_supervise import part
        from gridapps.server.supervise import Supervisor
        home = pathlib.Path({str(tmp_path)!r})
        one = part("one", home)
        supervisor = Supervisor(parts=[one], data=home, say=print)
        supervisor.start()
        print(supervisor.children[0].pid, flush=True)
        supervisor.watch()
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        supervisor.kill()
        wait_until(lambda: not alive(child))


ORPHANS = """
import os, pathlib, signal, sys, time
name, home = sys.argv[1], pathlib.Path(sys.argv[2])
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN if name == "deaf" else signal.SIG_DFL)
    (home / f"{name}.orphan").write_text(str(os.getpid()))
    (home / name).touch()
time.sleep(600)
"""


@pytest.mark.parametrize("name", ["deaf", "polite"])
def test_what_outlives_a_part_and_its_supervisor_is_ended_by_the_next_start(tmp_path, name):
    script = textwrap.dedent(f"""
        import pathlib, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_supervise import ORPHANS, part
        from gridapps.server.supervise import Supervisor
        home = pathlib.Path({str(tmp_path)!r})
        one = part({name!r}, home, ORPHANS)
        supervisor = Supervisor(parts=[one], data=home, say=print)
        supervisor.start()
        print(supervisor.children[0].pid, flush=True)
        supervisor.watch()
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        supervisor.kill()
    wait_until(lambda: (tmp_path / f"{name}.orphan").exists() and not alive(child))
    orphan = int((tmp_path / f"{name}.orphan").read_text())
    assert alive(orphan)
    said: list[str] = []
    end_leftovers(tmp_path / "run", patience=0.3, say=said.append)
    assert not alive(orphan)
    assert [line for line in said if str(orphan) in line]


def test_the_parts_of_a_running_instance_are_nobodys_leftovers_after_its_stop(tmp_path):
    supervisor = Supervisor(parts=[part("one", tmp_path)], data=tmp_path, say=print)
    supervisor.start()
    supervisor.shut_down()
    said: list[str] = []
    end_leftovers(tmp_path / "run", patience=5, say=said.append)
    assert said == []


def test_nothing_that_happens_to_the_look_ends_the_instance(tmp_path):
    told: list[str] = []
    sharing = msgspec.structs.replace(part("one", tmp_path), shares_storage=True)
    looks = []

    def look(pid: int) -> None:
        looks.append(pid)
        raise OSError(28, "No space left on device")

    supervisor = Supervisor(parts=[sharing], data=tmp_path, say=told.append, look=look)
    supervisor.start()
    watcher = threading.Thread(target=supervisor.watch)
    watcher.start()
    wait_until(lambda: len(looks) > 1, seconds=60)
    supervisor.stop()
    watcher.join()
    assert told == ["one cannot be looked after: [Errno 28] No space left on device"]


def test_a_part_that_locks_its_file_for_itself_is_started_again_all_the_same(tmp_path):
    supervisor = Supervisor(parts=[part("one", tmp_path)], data=tmp_path, say=print)
    with (tmp_path / "run" / "one.held").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        supervisor.start()
        supervisor.shut_down()


def test_a_stop_during_the_start_is_no_failure(tmp_path):
    supervisor = Supervisor(parts=[part(name, tmp_path) for name in "ab"], data=tmp_path, say=print)
    supervisor.stop()
    assert not supervisor.start()
    assert not (tmp_path / "journal").exists()


def test_what_left_the_group_of_its_part_ends_with_the_instance(tmp_path):
    left = ORPHANS.replace("if os.fork() == 0:", "if os.fork() == 0:\n    os.setsid()")
    supervisor = Supervisor(parts=[part("polite", tmp_path, left)], data=tmp_path, say=print)
    supervisor.start()
    orphan = int((tmp_path / "polite.orphan").read_text())
    supervisor.shut_down()
    assert not alive(orphan)


SERVER = """
import os, pathlib, signal, socket, sys, time
name, home = sys.argv[1], pathlib.Path(sys.argv[2])
kind = socket.SOCK_SEQPACKET if name == "packets" else socket.SOCK_STREAM
(home / f"{name}.socket").unlink(missing_ok=True)
listener = socket.socket(socket.AF_UNIX, kind)
listener.bind(str(home / f"{name}.socket"))
listener.listen()
while True:
    connection = listener.accept()[0]
    while (home / "hang").exists():
        time.sleep(0.05)
    with (home / "asked").open("ab") as asked:
        asked.write(connection.recv(100) + b"|")
    connection.close()
"""


def server(name: str, home: Path) -> PlannedPart:
    request = "" if name == "packets" else "are you there"
    return msgspec.structs.replace(
        part(name, home, SERVER),
        ready=Listens(str(home / f"{name}.socket"), packets=name == "packets"),
        asks=Asks(str(home / f"{name}.socket"), request),
    )


@pytest.fixture
def quickly(monkeypatch):
    """The supervisor asks nearly without a pause, and soon shows a silent part."""
    monkeypatch.setattr(part_watch, "EVERY", 0.1)
    monkeypatch.setattr(supervise, "_SILENT", 1.0)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("name", ["stream", "packets"])
@pytest.mark.parametrize("how", ["stopped", "hangs"])
def test_a_part_that_does_not_answer_is_shown_and_started_again(tmp_path, name, how):
    said: list[str] = []
    made = Supervisor(parts=[server(name, tmp_path)], data=tmp_path, say=said.append, part_timeout=3)
    made.start()
    watcher = threading.Thread(target=made.watch)
    watcher.start()
    try:
        (child,) = made.children
        first, asked = child.pid, tmp_path / "asked"
        wait_until(lambda: asked.exists() and asked.read_bytes().count(b"|") > 3, seconds=60)
        assert part_states.read(tmp_path)[name] == part_states.PartState(restarts=0, silent_since=None)
        if how == "hangs":
            (tmp_path / "hang").touch()
        else:
            os.kill(first, signal.SIGSTOP)
        wait_until(lambda: part_states.read(tmp_path)[name].silent_since is not None, seconds=60)
        wait_until(lambda: child.pid != first, seconds=60)
        (tmp_path / "hang").unlink(missing_ok=True)
        wait_until(
            lambda: part_states.read(tmp_path)[name] == part_states.PartState(restarts=1, silent_since=None),
            seconds=60,
        )
        assert f"{name} has not answered for 3 s, and is killed" in said[0]
        before = asked.read_bytes().count(b"|")
        wait_until(lambda: asked.read_bytes().count(b"|") > before, seconds=60)
        assert (b"are you there|" in asked.read_bytes()) == (name == "stream")
        assert not alive(first)
    finally:
        made.stop()
        watcher.join()


@pytest.mark.usefixtures("quickly")
def test_a_part_without_a_socket_that_was_stopped_is_started_again(tmp_path):
    made = Supervisor(parts=[part("one", tmp_path)], data=tmp_path, say=print, part_timeout=1)
    made.start()
    watcher = threading.Thread(target=made.watch)
    watcher.start()
    try:
        (child,) = made.children
        first = child.pid
        os.kill(first, signal.SIGSTOP)
        wait_until(lambda: child.pid != first, seconds=60)
    finally:
        made.stop()
        watcher.join()


@pytest.mark.usefixtures("quickly")
def test_a_part_that_goes_on_in_time_or_does_not_listen_is_left_alone(tmp_path):
    """Without a limit, a stopped part is only shown."""
    deaf = msgspec.structs.replace(
        part("deaf", tmp_path), asks=Asks(str(tmp_path / "nothing.socket"), "are you there")
    )
    said: list[str] = []
    made = Supervisor(parts=[deaf, server("stream", tmp_path)], data=tmp_path, say=said.append)
    made.start()
    pids = [child.pid for child in made.children]
    watcher = threading.Thread(target=made.watch)
    watcher.start()
    try:
        os.kill(pids[1], signal.SIGSTOP)
        wait_until(lambda: (state := part_states.read(tmp_path)) and state["stream"].silent_since, seconds=60)
        os.kill(pids[1], signal.SIGCONT)
        wait_until(lambda: part_states.read(tmp_path)["stream"].silent_since is None, seconds=60)
        assert part_states.read(tmp_path)["deaf"].silent_since is None
    finally:
        made.stop()
        watcher.join()
    assert said == []
