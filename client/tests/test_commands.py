"""What commands print and exit with, in particular when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result
from gridapps_client.cli import main
from gridapps_client.configuration import Configuration, Instance

from client.tests.loopback import Server, reply
from client.tests.test_watching import run as run_json

IDS = [f"3fa{n}{uuid.UUID(int=n).hex[4:]}" for n in range(3)] + ["3fa0ffff" + uuid.UUID(int=9).hex[8:]]
RUNS = [str(uuid.UUID(each)) for each in IDS]


@pytest.fixture
def known(server: Server, home: Path) -> Configuration:
    """Logged in to the server."""
    configuration = Configuration(home)
    configuration.save(Instance(url=server.url, token="t"), default=True)
    return configuration


def invoke(*words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, list(words), input=typed)


def answers(server: Server, table: dict[str, Any], *, status: int = 200) -> None:
    """Answer requests by `METHOD path`; everything else is 404."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        found = table.get(f"{handler.command} {urlsplit(handler.path).path.removeprefix('/api/v3')}")
        body = {"error": "There is nothing here.", "code": "not-found"} if found is None else found
        if callable(found):
            body = found(parse_qs(urlsplit(handler.path).query))
        reply(handler, 404 if found is None else status, json.dumps(body).encode(), ETag='"1"')

    server.answer = answer


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "density", "--exportfile", "1", "-a", "cell=1e400"], "beyond the range of numbers"),
        (["run", "density", "--exportfile", "1", "-a", "free=-1e999"], "beyond the range of numbers"),
        (["run", "density", "--exportfile", "1", "--cpus", "nan"], "nan is not a positive number"),
        (["run", "density", "--exportfile", "1", "--cpus", "inf"], "inf is not a positive number"),
        (["run", "density", "--exportfile", "1", "--cpus", "0"], "0.0 is not a positive number"),
        (["run", "density", "--exportfile", "1", "--memory", "9" * 400], "is too large"),
        (["run", "density", "--exportfile", "1", "--memory", "9999999T"], "is too large"),
        (["run", "density", "--exportfile", "1", "--time", "9" * 400 + "d"], "is too large"),
        (["run", "density"], "either --export PK or --exportfile PK"),
        (["run", "Bad Name", "--export", "1"], "'Bad Name' is not an app-id"),
        (["app", "show", "Bad Name"], "'Bad Name' is not an app-id"),
        (["push", "image", "Bad Name:1"], "'Bad Name' is not an app-id"),
        (["push", "image", "good:bad tag"], "'bad tag' is not a tag"),
        (["push", "Bad Image", "good:1"], "'Bad Image' is not the name of an image"),
        (["runs", "show", "latest"], "'latest' is not a run"),
        (["runs", "show", "3fa"], "the first 4 or more digits"),
    ],
)
def test_wrong_usage(server: Server, known: Configuration, words: list[str], said: str) -> None:
    properties = {"cell": {"type": "number"}}
    app: dict[str, Any] = {
        "id": "density",
        **dict.fromkeys(("title", "description", "owner", "repository"), "x"),
    }
    app |= dict.fromkeys(("created_at", "updated_at"), "2026-01-02T03:04:05Z")
    app |= {"arguments": {"properties": properties}, "runnable": True, "release": None}
    app |= {"resources": {"cpus": 1, "memory": 1, "disk": 1, "time": 1}}
    answers(server, {"GET /apps/density": {"apps": [app]}})
    done = invoke(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert {method for method, *_ in server.requests} <= {"GET"}
    printed = json.loads(invoke(*words, "--json").stderr)
    assert printed["code"] == "usage"
    assert said in printed["error"]


def test_errors_as_json(server: Server, known: Configuration) -> None:
    fault = {"pointer": "/arguments/cell", "error": "0 is less than the minimum of 0.1"}
    body = {"error": "The arguments do not match.", "code": "invalid-arguments", "fields": [fault]}
    server.answer = lambda handler: reply(handler, 400, json.dumps(body).encode())
    done = invoke("--json", "run", "density", "--export", "1")
    assert (done.exit_code, done.stdout) == (1, "")
    assert json.loads(done.stderr) == {**body, "status": 400}
    plain = invoke("run", "density", "--export", "1")
    assert plain.stderr == f"gridapps: {body['error']} {fault['pointer']}: {fault['error']}\n"


def test_errors_of_usage_as_json(known: Configuration) -> None:
    for words in (["runs", "--nope"], ["nope"], ["runs", "--limit", "x"]):
        done = invoke("--json", *words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert json.loads(done.stderr)["code"] == "usage"
        assert "Usage:" in invoke(*words).stderr
    assert invoke("--help").exit_code == 0
    assert invoke("--version").stdout.startswith("gridapps ")


def test_repeated_sentence_is_shown_once(server: Server, known: Configuration) -> None:
    sentence = "There is no access tag 'nope'."
    body = {"error": sentence, "code": "c", "fields": [{"pointer": "/access_tag", "error": sentence}]}
    server.answer = lambda handler: reply(handler, 400, json.dumps(body).encode())
    done = invoke("share", "create", "app", "--tag", "nope", "--release", "v1")
    assert done.stderr == f"gridapps: {sentence}\n"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("insufficient-scope", "The token lacks the scope 'admin' that this call needs."),
        ("not-an-administrator", "Only administrators may do this."),
    ],
)
def test_administrators_are_sent_to_their_login(
    server: Server, known: Configuration, code: str, sentence: str
) -> None:
    body = json.dumps({"error": sentence, "code": code}).encode()
    server.answer = lambda handler: reply(handler, 403, body)
    done = invoke("block", "app", "--reason", "r")
    assert (
        done.stderr
        == f"gridapps: {sentence} Administrators log in with: gridapps login {server.url} --admin\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["app", "show", "nope"], "There is no App 'nope', or you may not see it."),
        (["exports", "show", "99"], "There is no export '99', or you may not see it."),
        (["hook", "delete", "7"], "There is no hook '7', or you may not see it."),
        (["logs", RUNS[0]], f"There is no run '{RUNS[0]}', or you may not see it."),
        (["runs", "cancel", RUNS[0]], f"There is no run '{RUNS[0]}', or you may not see it."),
    ],
)
def test_missing_objects_are_named(server: Server, known: Configuration, words: list[str], said: str) -> None:
    answers(server, {})
    assert invoke(*words).stderr == f"gridapps: {said}\n"


def _listed(query: dict[str, list[str]]) -> dict[str, Any]:
    prefix = query.get("prefix", [""])[0]
    mine = [] if "shown" in query else RUNS[:3]
    found = [each for each in (mine or RUNS[3:]) if each.replace("-", "").startswith(prefix)]
    return {"runs": [run_json("CANCELED", id=each, reason_text="Canceled.") for each in found]}


def test_short_names_of_runs(server: Server, known: Configuration) -> None:
    ended = {f"GET /runs/{each}": {"runs": [run_json("SUCCESS", id=each)]} for each in RUNS}
    answers(server, {"GET /runs": _listed, **ended})

    def shown(name: str) -> str:
        return json.loads(invoke("runs", "show", name, "--json").stdout)["runs"][0]["id"]  # type: ignore[no-any-return]

    assert shown("3fa1") == shown("3FA1") == shown(RUNS[1]) == shown(RUNS[1].replace("-", "")) == RUNS[1]
    assert shown(RUNS[2][:13]) == RUNS[2]
    assert shown("last") == RUNS[0]
    assert shown("3fa0ffff") == RUNS[3], "a run that its owner shows"
    assert "No run that you may see begins with 1234." in invoke("runs", "show", "1234").stderr


def test_an_ambiguous_name(server: Server, known: Configuration) -> None:
    runs = [str(uuid.UUID(f"abcd{n}{uuid.UUID(int=1).hex[5:]}")) for n in range(9)]
    answers(server, {"GET /runs": {"runs": [run_json("SUCCESS", id=each) for each in runs]}})
    done = invoke("runs", "show", "abcd", "--json")
    assert (done.exit_code, json.loads(done.stderr)["code"]) == (1, "ambiguous")
    assert f"{runs[4]}, ..." in done.stderr
    answers(server, {"GET /runs": {"runs": []}})
    assert "You have no runs yet." in invoke("runs", "show", "last").stderr


@pytest.mark.parametrize(
    ("why", "ended"),
    [
        ("Canceled.", ("CANCELED.\n", 130)),
        ("Canceled by an administrator: full.", ("CANCELED. Canceled by an administrator: full.\n", 130)),
        ("Exit code 3.", ("FAILURE. Exit code 3.\n", 1)),
        ("", (f"SUCCESS. Get the outputs with: gridapps outputs get {RUNS[0]}\n", 0)),
    ],
)
def test_watch(server: Server, known: Configuration, why: str, ended: tuple[str, int]) -> None:
    found = run_json(ended[0].partition(".")[0], id=RUNS[0], reason_text=why)
    answers(server, {"GET /runs": {"runs": [found]}, f"GET /runs/{RUNS[0]}": {"runs": [found]}})
    done = invoke("runs", "watch", "last")
    assert (done.stdout, done.exit_code) == ended


def test_arguments_are_shown_as_json(server: Server, known: Configuration) -> None:
    arguments = {"classified": False, "name": "ü", "none": None}
    answers(
        server, {f"GET /runs/{RUNS[0]}": {"runs": [run_json("SUCCESS", id=RUNS[0], arguments=arguments)]}}
    )
    shown = invoke("runs", "show", RUNS[0]).stdout
    assert "argument classified = false\n" in shown
    assert 'argument name = "ü"\n' in shown
    assert "argument none = null\n" in shown
    assert "created 2026-01-02 03:04:05Z, started -, ended -" in shown
    printed = json.loads(invoke("runs", "show", RUNS[0], "--json").stdout)["runs"][0]
    assert printed["created_at"] == "2026-01-02T03:04:05.678901Z", "as in the API"


def _certificate(serial: str, name: str, *, state: str = "valid") -> dict[str, Any]:
    times = dict.fromkeys(("not_before", "not_after", "created_at"), "2027-01-02T03:04:05Z")
    return {"serial": serial, "name": name, "fingerprint": "f", **times, "revoked_at": None, "state": state}


def test_a_second_certificate(server: Server, known: Configuration) -> None:
    issued = {
        "certificate": _certificate("02", "laptop"),
        "pem": "-----BEGIN CERTIFICATE-----\nx",
        "ca": "-----BEGIN CERTIFICATE-----\nx",
        "authority": server.url.removeprefix("http://"),
        "key": "key",
    }
    listed = [_certificate("01", "laptop"), _certificate("03", "laptop", state="revoked")]
    table = {
        "GET /developer/certificates": {"certificates": listed},
        "POST /developer/certificates": issued,
        "DELETE /developer/certificates/01": {},
    }
    answers(server, table)
    first = invoke("certificate", "create", "laptop")
    assert first.exit_code == 0, first.stderr
    assert "revoke it with: gridapps certificate revoke 01" in first.stderr
    listed.append(issued["certificate"])  # type: ignore[arg-type]
    server.requests.clear()
    second = invoke("certificate", "create", "laptop")
    assert (second.exit_code, second.stdout) == (1, "")
    assert "has the certificate 'laptop' (02), valid until 2027-01-02" in second.stderr
    assert "add --replace" in second.stderr
    assert {method for method, *_ in server.requests} == {"GET"}, "nothing was made and nothing revoked"
    table["DELETE /developer/certificates/02"] = {}
    assert invoke("certificate", "create", "laptop", "--replace").exit_code == 0
    methods = [(method, path.rpartition("/")[2]) for method, path, *_ in server.requests if method != "GET"]
    assert methods == [("POST", "certificates"), ("DELETE", "02")], (
        "the old one goes when the new one is here"
    )


def test_output_that_cannot_be_written(server: Server, known: Configuration, home: Path) -> None:
    answers(server, {"GET /runs": {"runs": [run_json("SUCCESS", id=RUNS[0], app="日")]}})
    paths = {"PYTHONIOENCODING": "latin-1", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment = {**os.environ, **paths}
    command = [sys.executable, "-c", "from gridapps_client.cli import main; main()", "runs"]
    latin_only = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (latin_only.returncode, latin_only.stderr) == (0, b"")
    assert rb"\u65e5" in latin_only.stdout
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"gridapps: No space left on device.\n"
    reader, writer = os.pipe()
    os.close(reader)
    broken = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (broken.returncode, broken.stderr) == (1, b"")
