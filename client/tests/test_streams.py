"""Lines, log lines and events, however the network cuts them."""

import json

import pytest
from gridapps_client import BadAnswer
from gridapps_client.models import Line
from gridapps_client.streams import Event, Seen, events, lines, log_line, log_lines
from hypothesis import given
from hypothesis import strategies as st


@given(st.binary(), st.lists(st.integers(min_value=1, max_value=7), min_size=1))
def test_lines_do_not_depend_on_the_pieces(content: bytes, cuts: list[int]) -> None:
    pieces, rest, turn = [], content, 0
    while rest:
        cut = cuts[turn % len(cuts)]
        pieces.append(rest[:cut])
        rest, turn = rest[cut:], turn + 1
    assert list(lines(pieces)) == list(lines([content] if content else []))


def test_only_the_line_feed_ends_a_line() -> None:
    content = "a\u2028b\x0bc\x85d\re\r\nf\n\ng".encode()
    assert list(lines([content])) == ["a\u2028b\x0bc\x85d\re", "f", "", "g"]


def test_a_line_without_end() -> None:
    with pytest.raises(BadAnswer, match="does not end"):
        list(lines(b"x" * 65536 for _ in range(1000)))


def test_log_lines() -> None:
    given_lines = ["0 2026-01-01T00:00:00Z two  words", "12 2026-01-01T00:00:01Z "]
    assert list(log_lines(given_lines)) == [
        Line(task=0, at="2026-01-01T00:00:00Z", text="two  words"),
        Line(task=12, at="2026-01-01T00:00:01Z", text=""),
    ]
    with pytest.raises(BadAnswer, match="without index"):
        list(log_lines(["<html>"]))


def test_events() -> None:
    text = [
        ": keep",
        "",
        "event: line",
        "data: {",
        "data: }",
        "",
        "data:x",
        "",
        "event: end",
        "data: {}",
        "",
        "id: 7",
        "data: a",
        "",
        "data: b",
        "",
        "id:",
        "data: c",
        "",
        "data: cut",
    ]
    assert list(events(text)) == [
        Event("line", "{\n}"),
        Event("message", "x"),
        Event("end", "{}"),
        Event("message", "a", "7"),
        Event("message", "b", "7"),
        Event("message", "c", ""),
    ]


def test_an_event_without_end() -> None:
    with pytest.raises(BadAnswer, match="does not end"):
        list(events("data: " + "x" * 65536 for _ in range(1000)))


@pytest.mark.parametrize("data", ["", "[]", "{}", '{"task": "x", "at": "", "text": ""}'])
def test_no_log_line(data: str) -> None:
    with pytest.raises(BadAnswer, match="not a log line"):
        log_line(Event("line", data))


def test_log_line_keeps_what_json_escapes() -> None:
    data = json.dumps({"task": 1, "at": "t", "text": "a\nb\u2028"})
    assert log_line(Event("line", data)) == Line(task=1, at="t", text="a\nb\u2028")


def test_a_stream_that_starts_again_repeats_nothing() -> None:
    written = [
        Line(0, "t1", "a"),
        Line(0, "t1", "a"),
        Line(1, "t0", "b"),
        Line(0, "t2", "c"),
        Line(0, "t2", "d"),
    ]
    seen = Seen()
    got = [line for line in written[:4] if seen.new(line)]
    seen.restarted()
    got += [line for line in written if seen.new(line)]
    seen.restarted()
    got += [line for line in [*written, Line(0, "t2", "d")] if seen.new(line)]
    assert got == [*written, Line(0, "t2", "d")]
