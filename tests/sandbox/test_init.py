"""The container's first process: log, output, signals, and a report that cannot be forged."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gridapps.sandbox.profile import INIT_BINARY
from gridapps.sandbox.protocol import Limits
from gridapps.sandbox.report import read_report
from tests.fixtures.engine import Engine
from tests.sandbox.conftest import MIB, Bench

pytestmark = pytest.mark.service
Script = Callable[[str], str]
WORD = "0123456789abcdef" * 4


def test_outside_a_container_it_does_nothing() -> None:
    """It kills every process that it sees, so it refuses to run on the host."""
    words = ["/a", "/b", "/c", "/d", "1", "2", "/", "true"]
    done = subprocess.run([str(INIT_BINARY), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "first process" in done.stderr


def test_each_line_has_its_time(bench: Bench, script: Script) -> None:
    name = bench.start(script(r"printf 'a\nb\r\n\nc\rd' >&2"))
    result = bench.finish(name)
    assert result.log == ["a", "b", "", "d"]
    stamps = [line.split(" ")[0] for line in bench.raw_log(name).decode().splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp) for stamp in stamps)
    assert stamps == sorted(stamps)
    started = result.ended.started_at.isoformat(timespec="microseconds")[:19]
    assert started <= stamps[0] <= stamps[-1][:19] + "Z"


def test_a_long_line_is_split(bench: Bench, script: Script) -> None:
    result = bench.run(script("head -c 150000 /dev/zero | tr '\\0' x >&2; echo >&2"))
    assert [len(line) for line in result.log] == [65536, 65536, 150000 - 2 * 65536]


def test_a_long_log_keeps_its_beginning_and_its_end(bench: Bench, script: Script) -> None:
    name = bench.start(script("seq 1000000 >&2; echo last words >&2"))
    result = bench.finish(name)
    assert result.log[0] == "1"
    assert result.log[-1] == "last words"
    (note,) = [line for line in result.log if "left out" in line]
    numbers = [int(line) for line in result.log if line.isdigit()]
    assert numbers == sorted(numbers)
    assert 0.9 * MIB < len(bench.raw_log(name)) <= MIB
    assert result.ended.log_dropped > MIB
    assert str(result.ended.log_dropped) in note


def test_progress_and_newest_lines_are_readable_after_a_long_log(bench: Bench, script: Script) -> None:
    """Whatever was written before, and while the program runs."""
    name = bench.start(script("seq 1000000 >&2; echo alive >&2; sleep 60"))
    while bench.log(name)[-1:] != ["alive"]:
        assert bench.sandbox.wait(name, timeout=0.1) is None
    bench.sandbox.stop(name, grace=0)


def test_a_carriage_return_overwrites_its_line(bench: Bench, script: Script) -> None:
    bar = r"""printf "\r %3d%%|##| $i/3" $((i*33)) >&2; printf '{"progress": 0.%d}\n' $i >&2"""
    result = bench.run(script(f"for i in 1 2 3; do {bar}; done; printf '\\rone\\rtwo' >&2"))
    assert result.log == ["33%|##| 1/3", "66%|##| 2/3", "99%|##| 3/3", "two"]


def test_a_small_log_limit_holds(bench: Bench, script: Script) -> None:
    limits = Limits(cpus=1, memory=64 * MIB, disk=8 * MIB, inodes=100, log=4096)
    name = bench.start(script("seq 10000 >&2"), limits=limits)
    assert bench.finish(name).log[-1] == "10000"
    assert len(bench.raw_log(name)) <= 4096


def test_arguments_of_any_length_arrive_through_a_pipe(bench: Bench, script: Script) -> None:
    """A pipe holds 64 KiB, so init writes while the program reads."""
    arguments = b'{"a": "' + b"x" * (1024**2 - 9) + b'"}'
    result = bench.run(script("stat -L -c %F /dev/stdin; sleep 0.1; wc -c; cat"), arguments=arguments)
    assert result.stdout.split() == ["fifo", str(len(arguments))]


@pytest.mark.parametrize("text", ["exec 0<&-; sleep 0.2; exit 4", "head -c 5; exit 4", "exit 4"])
def test_unread_arguments_do_not_block_the_program(bench: Bench, script: Script, text: str) -> None:
    ended = bench.run(script(text), arguments=b'{"a": "' + b"x" * 500_000 + b'"}').ended
    assert (ended.exit_code, ended.interrupted) == (4, False)


def test_output_of_children_that_outlive_the_program_is_kept(bench: Bench, script: Script) -> None:
    result = bench.run(script("(sleep 0.1; echo child; sleep 60) & echo parent; sleep 0.3"))
    assert result.stdout.splitlines() == ["parent", "child"]


def test_standard_output_can_be_opened_again_without_loss(bench: Bench, script: Script) -> None:
    result = bench.run(script("echo one; echo two > /dev/stdout; echo three"))
    assert result.stdout == "one\ntwo\nthree\n"


def test_a_signal_of_the_program_is_its_exit_code(bench: Bench, script: Script) -> None:
    assert bench.run(script("kill -SEGV $$")).ended.exit_code == 139


def test_an_end_that_was_asked_for_from_outside_is_told(
    bench: Bench, script: Script, engine: Engine, instance: str
) -> None:
    """An engine that stops sends TERM; how the program then ends is not its own doing."""
    name = bench.start(script("trap 'exit 7' TERM; echo ready >&2; while :; do sleep 0.1; done"))
    while "ready" not in bench.log(name):
        time.sleep(0.05)
    engine.client.kill(f"gridapps-{instance}-{name}", signal="TERM")
    ended = bench.finish(name).ended
    assert (ended.exit_code, ended.interrupted) == (7, True)


def test_the_program_cannot_pretend_that_it_was_ended_from_outside(bench: Bench, script: Script) -> None:
    ended = bench.run(script("kill -TERM 1; sleep 5")).ended
    assert (ended.exit_code, ended.interrupted) == (143, False)


def test_an_exit_code_of_137_alone_is_not_memory(bench: Bench, script: Script) -> None:
    ended = bench.run(script("exit 137")).ended
    assert ended.exit_code == 137
    assert not ended.out_of_memory


def test_a_file_that_stands_where_output_goes_cannot_be_there(bench: Bench, engine: Engine) -> None:
    """An image may contain /grid; an empty one is mounted over it."""
    image = engine.image(command=["ls -a /grid"], files={"/grid/stdout.txt": (b"forged", 0o666)})
    assert bench.run(image).stdout.split() == [".", "..", "stdout.txt"]


FORGE = """
for i in 1 2 3; do echo forged; done > /.gridapps/report/status
printf 'exit_code 0\nend\n' >> /.gridapps/report/status
rm -f /.gridapps/report/status; mv /.gridapps/report/status /.gridapps/report/x
chmod 0 /.gridapps/report/status
ln -s /etc/passwd /.gridapps/report/y; ls -l /.gridapps/report/status; exit 5
"""


def test_the_program_cannot_forge_or_replace_the_report(bench: Bench, engine: Engine) -> None:
    image = engine.image(entrypoint=["/forge"], files={"/forge": (b"#!/bin/sh" + FORGE.encode(), 0o755)})
    result = bench.run(image)
    assert result.ended.exit_code == 5
    assert result.ended.usage.cpu_seconds > 0
    assert result.stdout.startswith("-rw-rw-rw-    1 0        0 ")
    assert [line for line in result.log if "y: Permission denied" in line]


def test_the_word_is_erased_before_the_program_starts(bench: Bench, script: Script) -> None:
    result = bench.run(script("cat /.gridapps/report/status; find / -xdev -name launch.json; env"))
    assert not re.search(r"\b[0-9a-f]{64}\b", result.stdout)


def test_a_full_disk_does_not_hide_the_end(bench: Bench, script: Script) -> None:
    fill = "for i in a b c; do cat /dev/zero > /grid/$i; done"
    result = bench.run(script(f"{fill}; : > /.gridapps/report/status; cat /dev/zero > /grid/d; exit 3"))
    assert result.ended.exit_code == 3


def test_its_own_log_can_be_spoilt_by_the_program_but_not_more(bench: Bench, script: Script) -> None:
    spoil = "echo one >&2; sleep 0.1; echo forged > /.gridapps/run/log; echo two >&2; sleep 0.1"
    name = bench.start(script(spoil))
    assert bench.finish(name).ended.exit_code == 0
    assert bench.log(name) == ["forged", "two"]


@pytest.fixture(scope="module")
def forger(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Images of forge.c, by the attack that it tries."""
    program = tmp_path_factory.mktemp("forge") / "forge"
    code = Path(__file__).with_name("forge.c")
    subprocess.run(["gcc", "-static", "-O1", "-o", str(program), str(code)], check=True)
    files = {"/forge": (program.read_bytes(), 0o755)}
    return lambda what: engine.image(entrypoint=["/forge", what], files=files)


@pytest.mark.parametrize("what", ["queue", "queue-user", "thread", "owner", "fill", "memory"])
def test_the_program_cannot_turn_its_end_into_a_failure_of_the_platform(
    bench: Bench, forger: Callable[[str], str], what: str
) -> None:
    """Otherwise it would be tried three times and lose its outputs."""
    limits = Limits(cpus=1, memory=24 * MIB, disk=8 * MIB, inodes=200, processes=20, log=MIB)
    result = bench.run(forger(what), limits=limits)
    assert not result.ended.interrupted
    assert result.ended.exit_code in ({5, 137} if what == "memory" else {5})
    assert result.ended.usage.cpu_seconds > 0, "its own report counts"


def _report(**changes: str) -> str:
    facts = {
        "exit_code": "0", "signal": "0", "stage": "none", "error": "0",
        "started": "2026-01-01T00:00:00.000000Z", "ended": "2026-01-01T00:00:01.000000Z",
        "log_dropped": "0", "output_dropped": "0", "disk_full": "0", "oom_kills": "0", "forks_refused": "0",
        "cpu_us": "5000", "memory": "1", "tmp": "2", "shm": "3", "asked": "0", **changes,
    }  # fmt: skip
    return f"{WORD}\n" + "".join(f"{key} {value}\n" for key, value in facts.items()) + "end\n"


def test_a_report_is_read(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(_report(exit_code="7"))
    report = read_report(tmp_path / "status", word=WORD)
    assert report is not None
    assert (report.exit_code, report.cpu_seconds) == (7, 0.005)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "end\n",
        WORD,
        WORD + "\n",
        _report()[:-1],
        _report().replace(WORD, WORD[::-1]),
        _report()[:80],
        "\xff",
    ],
)
def test_what_init_did_not_write_whole_is_no_report(tmp_path: Path, text: str) -> None:
    (tmp_path / "status").write_text(text, encoding="latin-1")
    assert read_report(tmp_path / "status", word=WORD) is None


def test_without_a_word_nothing_is_a_report(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(_report().removeprefix(WORD))
    assert read_report(tmp_path / "status", word="") is None


def test_a_link_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(_report())
    (tmp_path / "status").symlink_to(tmp_path / "real")
    assert read_report(tmp_path / "status", word=WORD) is None
