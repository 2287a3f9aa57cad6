"""Waiting for a run and following its log, over broken connections, and what is shown meanwhile."""

from __future__ import annotations

import io
import json
import uuid
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from gridapps_client import Client, NotFound, Unreachable
from gridapps_client.decoding import decode
from gridapps_client.models import Run
from gridapps_client.progress import watching
from rich.console import Console

from client.tests.loopback import Server, reply

RUN = str(uuid.UUID(int=7))


def run(state: str, *, progress: float = 0.0, version: int = 1, **more: Any) -> dict[str, Any]:
    texts = dict.fromkeys(("app", "release", "export", "message", "reason_text"), "x")
    nothing = dict.fromkeys(("exportfile", "reason", "retry_of", "started_at", "ended_at"))
    return {
        **texts,
        **nothing,
        "created_at": "2026-01-02T03:04:05.678901Z",
        "id": RUN,
        "task_id": RUN,
        "arguments": {},
        "resources": {"cpus": 1, "memory": 1, "disk": 1, "time": 1},
        "state": state,
        "progress": progress,
        "version": version,
        "cancel_requested": False,
        "task_counts": {"SUCCESS": 1, "FAILURE": 1, "RUNNING": 2},
        "usage": {},
        "urls": {},
        **more,
    }


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridapps_client.following.time.sleep", lambda _: None)


def test_watch_asks_for_the_next_change(server: Server, client: Client) -> None:
    states = [run("QUEUED"), None, "broken", run("RUNNING", version=2), "away", run("SUCCESS", version=3)]
    turns = iter(states)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        turn = next(turns)
        if turn is None:
            reply(handler, 304, b"")
        elif turn == "broken":
            handler.close_connection = True
        elif turn == "away":
            reply(handler, 502, b"<html>")
        else:
            assert isinstance(turn, dict)
            reply(handler, 200, json.dumps({"runs": [turn]}).encode(), ETag=f'"{turn["version"]}"')

    server.answer = answer
    assert [each.state for each in client.watch(RUN)] == ["QUEUED", "RUNNING", "SUCCESS"]
    paths = [path.partition("?")[2] for _, path, _, _ in server.requests]
    tags = [headers.get("if-none-match") for _, _, headers, _ in server.requests]
    assert paths == ["", *["wait=50"] * 5]
    assert tags == [None, '"1"', '"1"', '"1"', '"2"', '"2"']


def test_client_beyond_the_limit_of_waiters_polls(server: Server, client: Client) -> None:
    full = json.dumps({"error": "Too many clients wait.", "code": "unavailable"}).encode()
    turns = iter([run("QUEUED"), *[full] * 4, None, run("SUCCESS", version=2)])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        turn = next(turns)
        if turn is None:
            reply(handler, 304, b"")
        elif isinstance(turn, bytes):
            reply(handler, 503, turn)
        else:
            reply(handler, 200, json.dumps({"runs": [turn]}).encode(), ETag=f'"{turn["version"]}"')

    server.answer = answer
    assert [each.state for each in client.watch(RUN)] == ["QUEUED", "SUCCESS"]
    paths = [path.partition("?")[2] for _, path, _, _ in server.requests]
    assert paths == ["", *["wait=50"] * 4, "", "wait=50"]


def test_follow_goes_on_behind_the_last_event(server: Server, client: Client) -> None:
    """Streams that end early, as of a client without a place, and one that starts anew."""
    begin, end = b"event: begin\ndata: {}\n\n", b'event: end\ndata: {"state": "SUCCESS"}\n\n'
    written = [b"id: %d\n" % number + event(1, "same") for number in range(4)]
    streams = iter(
        [
            b"retry: 5000\n\n" + begin + b"".join(written[:2]),
            b"retry: 5000\n\n",
            written[2],
            begin + b"".join(written) + end,
        ]
    )
    server.answer = lambda handler: reply(handler, 200, next(streams))
    assert [line.text for line in client.follow_log(RUN)] == ["same"] * 4
    sent = [headers.get("last-event-id") for _, _, headers, _ in server.requests]
    assert sent == [None, "1", "1", "2"]


def test_watch_gives_up_in_the_end(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridapps_client.following._OUTAGE", 0.2)
    answers = iter([True])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if next(answers, False):
            reply(handler, 200, json.dumps({"runs": [run("RUNNING")]}).encode(), ETag='"1"')
        else:
            reply(handler, 502, b"")

    server.answer = answer
    with pytest.raises(Unreachable, match="starting, stopping or overloaded"):
        client.wait(RUN)


def test_watch_says_at_once_that_there_is_none(server: Server, client: Client) -> None:
    body = json.dumps({"error": "There is nothing here, or it is not yours.", "code": "not-found"}).encode()
    server.answer = lambda handler: reply(handler, 404, body)
    with pytest.raises(NotFound, match="There is no run"):
        client.wait(RUN)
    with pytest.raises(NotFound, match="There is no run"):
        list(client.follow_log(RUN))


def event(at: int, text: str) -> bytes:
    return b"event: line\ndata: " + json.dumps({"task": 0, "at": f"t{at}", "text": text}).encode() + b"\n\n"


def test_follow_goes_on_without_repeating(server: Server, client: Client) -> None:
    written = [event(1, "a"), event(1, "b"), event(2, "c")]
    streams = iter(
        [
            b"".join(written[:2]),
            b": keep\n\n" + b"".join(written) + b'event: end\ndata: {"state": "SUCCESS"}\n\n',
        ]
    )
    server.answer = lambda handler: reply(handler, 200, next(streams))
    assert [line.text for line in client.follow_log(RUN)] == ["a", "b", "c"]
    assert len(server.requests) == 2


def test_plain_lines_for_no_terminal() -> None:
    written = io.StringIO()
    with watching(Console(file=written, width=40)) as watcher:
        for progress in (0.0, 0.01, 0.05, 0.11, 0.12, 0.4):
            watcher.show(decode(Run, run("RUNNING", progress=progress, message="\x1b[2J[red]" + "m" * 60)))
        watcher.show(decode(Run, run("FAILURE", progress=0.4, message="")))
    message = "\\x1b[2J[red]" + "m" * 60
    assert written.getvalue().splitlines() == [
        f"x RUNNING 0% 1/4 tasks, 1 failed {message}",
        f"x RUNNING 11% 1/4 tasks, 1 failed {message}",
        f"x RUNNING 40% 1/4 tasks, 1 failed {message}",
        "x FAILURE 40% 1/4 tasks, 1 failed",
    ]


def test_a_bar_for_a_terminal() -> None:
    written = io.StringIO()
    with watching(Console(file=written, force_terminal=True, width=120, color_system=None)) as watcher:
        watcher.show(decode(Run, run("RUNNING", progress=0.25, message="[red]\x1b]0;t\x07ground")))
    shown = written.getvalue()
    assert "x RUNNING" in shown
    assert "25 %" in shown
    assert "1/4 tasks, 1 failed" in shown
    assert "[red]\\x1b]0;t\\x07ground" in shown
    assert "\x1b]0;" not in shown
