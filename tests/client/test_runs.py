"""Submitting, watching and canceling runs, and downloading outputs, as a user does it."""

import json
import signal
import uuid
import zipfile

import pytest

from tests.client.conftest import Bench, Shell, Terminal

pytestmark = pytest.mark.system
NUMBERS = "".join(f"{n}\n" for n in range(1, 300001)).encode()


def test_run_and_get_the_outputs(bench: Bench):
    shell = bench.shell
    done = shell.must(
        "run", bench.app, "--export", bench.export, "--argument", "do=write", "-a", "word=3", "--json"
    )
    [run] = done.json["runs"]
    assert (run["state"], run["arguments"]) == ("SUCCESS", {"do": "write", "word": "3", "seconds": 1})
    assert f"{bench.app} SUCCESS 100% 2/2 tasks" in done.err
    assert "\x1b" not in done.err
    listed = {
        each["path"]: each for each in shell.must("outputs", "list", run["id"], "--json").json["outputs"]
    }
    assert {"0/word.txt", "0/sub/numbers.txt", "1/word.txt", "1/sub/numbers.txt"} <= set(listed)
    got = shell.must("outputs", "get", run["id"], "0", "--to", "results", "--json").json["files"]
    assert {each["path"] for each in got} == {path for path in listed if path.startswith("0/")}
    assert (shell.home / "results/0/word.txt").read_text() == "3"
    assert (shell.home / "results/0/sub/numbers.txt").read_bytes() == NUMBERS
    assert not (shell.home / "results/1").exists()
    left = [each.name for each in (shell.home / "results").rglob(".gridapps-*")]
    assert left == []


def test_an_interrupted_download_goes_on(bench: Bench):
    shell = bench.shell
    run = shell.submit(bench.app, bench.export, "do=write")
    shell.must("logs", run, "-f")
    listed = {each["path"]: each for each in shell.must("outputs", "list", run, "--json").json["outputs"]}
    directory = shell.home / "again" / "0" / "sub"
    directory.mkdir(parents=True)
    digest = listed["0/sub/numbers.txt"]["sha256"]
    part = directory / f".gridapps-{digest[:32]}.part"
    part.write_bytes(NUMBERS[:1_000_000])
    shell.must("outputs", "get", run, "0/sub/numbers.txt", "--to", "again")
    assert (directory / "numbers.txt").read_bytes() == NUMBERS
    assert not part.exists()
    # Wrong data of an earlier attempt never becomes part of the result.
    (directory / "numbers.txt").unlink()
    part.write_bytes(b"x" * 1_000_000)
    refused = shell.run("outputs", "get", run, "0/sub/numbers.txt", "--to", "again")
    assert refused.status == 1
    assert "announced size or SHA-256" in refused.err
    shell.must("outputs", "get", run, "0/sub/numbers.txt", "--to", "again")
    assert (directory / "numbers.txt").read_bytes() == NUMBERS


def test_zip(bench: Bench):
    run = bench.shell.submit(bench.app, bench.export, "do=write", "word=w")
    bench.shell.must("logs", run, "-f")
    [file] = bench.shell.must("outputs", "get", run, "--zip", "--to", "zipped", "--json").json["files"]
    with zipfile.ZipFile(bench.shell.home / file["file"]) as archive:
        assert archive.testzip() is None
        assert archive.read("1/word.txt") == b"w"


def test_outputs_are_deleted_and_the_run_stays(bench: Bench):
    shell = bench.shell
    run = shell.submit(bench.app, bench.export, "do=write")
    shell.must("logs", run, "-f")
    asked = shell.run("outputs", "delete", run)
    assert (asked.status, "confirm with --yes" in asked.err) == (2, True)
    assert shell.must("outputs", "list", run, "--json").json["outputs"]
    assert shell.must("outputs", "delete", run, "--yes", "--json").json == {"run_id": run}
    assert "Deleted the outputs" in shell.must("outputs", "delete", run, "--yes").out
    for words in (("outputs", "get"), ("logs", "-f")):
        gone = shell.run(*words, run)
        assert gone.status == 1
        assert "were removed on 20" in gone.err
    shown = shell.must("runs", "show", run).out
    assert "outputs and log were removed 20" in shown
    digest = shell.must("runs", "show", run, "--json").json["runs"][0]["release"]
    assert f"release {digest}\n" in shown
    assert len(digest) == 71
    missing = shell.run("outputs", "delete", str(uuid.uuid4()), "--yes")
    assert missing.status == 1


def test_a_failed_run(bench: Bench):
    done = bench.shell.run("run", bench.app, "--export", bench.export, "-a", "do=fail")
    assert done.status == 1
    assert done.out.startswith("FAILURE. ")
    assert "1.laz: " in done.err
    assert "]0;mine" in done.err
    assert "\x1b" not in done.out + done.err
    [run] = bench.shell.must("runs", "list", "--state", "FAILURE", "--limit", "1", "--json").json["runs"]
    shown = bench.shell.must("runs", "show", run["id"]).out
    assert "2.laz" in shown
    again = bench.shell.must("runs", "retry", run["id"], "--detach", "--json").json["runs"][0]["run_id"]
    assert bench.shell.run("logs", again, "-f").status == 0
    assert bench.shell.must("runs", "show", again, "--json").json["runs"][0]["retry_of"] == run["id"]


def test_the_log_is_followed_live(bench: Bench):
    # The task runs until it is canceled, so lines that arrive before arrive while it runs.
    run = bench.shell.submit(bench.app, bench.export, "do=sleep", "seconds=110")
    process = bench.shell.start("logs", run, "--follow", "--task", "0", "--json")
    assert process.stdout is not None
    texts = [json.loads(process.stdout.readline())["text"] for _ in range(3)]
    assert texts == ["begin sleep", "second 1", "second 2"]
    assert bench.shell.must("runs", "show", run, "--json").json["runs"][0]["state"] == "RUNNING"
    bench.shell.must("runs", "cancel", run)
    # Not communicate(), which does not see what readline() has read ahead.
    texts += [json.loads(line)["text"] for line in process.stdout]
    assert process.wait(120) == 0
    assert texts[3:] == [f"second {number}" for number in range(3, len(texts))]
    whole = bench.shell.must("logs", run, "--task", "0").out.splitlines()
    assert [line.split(" ", 2)[2] for line in whole] == texts


def test_interrupt_without_a_terminal_leaves_the_run(bench: Bench):
    process = bench.shell.start(
        "run", bench.app, "--export", bench.export, "-a", "do=sleep", "-a", "seconds=3"
    )
    assert process.stderr is not None
    run = process.stderr.readline().split()[1]
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "The run continues" in err
    bench.shell.must("logs", run, "-f")
    assert bench.shell.must("runs", "show", run, "--json").json["runs"][0]["state"] == "SUCCESS"


@pytest.mark.parametrize(("answer", "state"), [("y", "CANCELED"), ("n", "SUCCESS")])
def test_interrupt_asks_whether_to_cancel(bench: Bench, answer: str, state: str):
    seconds = 60 if answer == "y" else 4
    words = ["run", bench.app, "--export", bench.export, "-a", "do=sleep", "-a", f"seconds={seconds}"]
    terminal = Terminal(bench.shell, words)
    terminal.wait_for("asleep")
    terminal.wait_for("0/2 tasks")
    terminal.type("\x03")
    terminal.wait_for("Cancel the run?")
    terminal.type(f"{answer}\n")
    assert terminal.close() == 130
    run = terminal.screen.split("Run ", 1)[1][:36]
    assert str(uuid.UUID(run)) == run
    bench.shell.must("logs", run, "-f")
    assert bench.shell.must("runs", "show", run, "--json").json["runs"][0]["state"] == state


def test_cancel(bench: Bench):
    run = bench.shell.submit(bench.app, bench.export, "do=sleep", "seconds=60")
    bench.shell.must("runs", "cancel", run)
    bench.shell.must("logs", run, "-f")
    assert bench.shell.must("runs", "show", run, "--json").json["runs"][0]["state"] == "CANCELED"
    again = bench.shell.run("runs", "cancel", run)
    assert again.status == 1
    assert len(again.err.splitlines()) == 1


def test_the_same_key_is_the_same_run(bench: Bench):
    words = [
        "run",
        bench.app,
        "--export",
        bench.export,
        "-a",
        "do=write",
        "--detach",
        "--key",
        str(uuid.uuid4()),
    ]
    first, second = bench.shell.must(*words).out, bench.shell.must(*words).out
    assert first == second
    other = bench.shell.run(*[word.replace("do=write", "do=fail") for word in words])
    assert other.status == 1


def test_wrong_arguments(bench: Bench):
    done = bench.shell.run("run", bench.app, "--export", bench.export, "-a", "do=write", "-a", "seconds=-1")
    assert done.status == 1
    assert "/arguments/seconds" in done.err
    done = bench.shell.run("run", bench.app, "--export", bench.export, "-a", "seconds=soon")
    assert (done.status, done.out) == (2, "")
    assert "'seconds' must be an integer" in done.err
    done = bench.shell.run("run", bench.app)
    assert done.status == 2
    assert "--export PK" in done.err


def test_arguments_from_a_file_and_from_standard_input(bench: Bench):
    given = json.dumps({"do": "write", "word": "in"})
    words = ["run", bench.app, "--export", bench.export, "--arguments", "-", "-a", "word=out", "--json"]
    [run] = bench.shell.must(*words, typed=given).json["runs"]
    assert run["arguments"]["word"] == "out"
    (bench.shell.home / "arguments.json").write_text(given)
    words[words.index("-")] = "arguments.json"
    [run] = bench.shell.must(*words[:6], "--json").json["runs"]
    assert run["arguments"]["word"] == "in"


def test_what_others_must_not_see(bench: Bench, outsider: Shell):
    run = bench.shell.submit(bench.app, bench.export, "do=write")
    for words in (
        ["app", "show", bench.app],
        ["runs", "show", run],
        ["runs", "cancel", run],
        ["logs", run],
        ["logs", run, "-f"],
        ["outputs", "list", run],
        ["outputs", "get", run],
        ["exports", "show", bench.export],
        ["run", bench.app, "--export", bench.export],
    ):
        done = outsider.run(*words)
        assert (done.status, done.out) == (1, ""), words
        assert len(done.err.splitlines()) == 1, done.err
    for words in (["app", "list"], ["runs"], ["exports"]):
        assert list(outsider.must(*words, "--json").json.values()) == [[]]


def test_exports(bench: Bench):
    listed = bench.shell.must("exports", "--json").json["exports"]
    assert bench.export in {each["pk"] for each in listed}
    shown = bench.shell.must("exports", "show", bench.export).out
    assert "1.laz" in shown
    assert "500" in shown
    [file] = [file for each in listed for file in each["exportfiles"] if file["name"] == "2.laz"][:1]
    words = ["run", bench.app, "--exportfile", file["pk"], "-a", "do=write", "--json"]
    [run] = bench.shell.must(*words).json["runs"]
    assert [task["name"] for task in run["tasks"]] == ["2.laz"]


def test_incomplete_outputs_are_a_failure_that_every_command_names(bench: Bench):
    shell = bench.shell
    ended = shell.run("run", bench.app, "--export", bench.export, "-a", "do=odd")
    assert ended.status == 1
    assert "Outputs incomplete: the program succeeded" in ended.out
    lost = r"left out: 0/Geb\xe4ude.gpkg has a name that is not UTF-8."
    assert lost in ended.out
    run = shell.must("runs", "list", "--json").json["runs"][0]
    assert (run["state"], run["reason"]) == ("FAILURE", "outputs-incomplete")
    listed = shell.must("outputs", "list", run["id"])
    assert lost in listed.err
    assert shell.must("outputs", "list", run["id"], "--json").json["left_out_count"] == 2
    got = shell.must("outputs", "get", run["id"], "--to", "odd")
    assert lost in got.err
    assert (shell.home / "odd/0/latest.txt").read_text() == "2"


def test_the_log_of_a_task_that_is_not_there(bench: Bench):
    run = bench.shell.submit(bench.app, bench.export, "do=write")
    for words in (("logs",), ("logs", "-f")):
        missing = bench.shell.run(*words, run, "--task", "99")
        assert (missing.status, missing.out) == (1, "")
        assert "The run has no task 99: its tasks are 0 to 1." in missing.err
