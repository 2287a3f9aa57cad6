"""The library raises GridAppsError alone, whatever arrives at its boundaries: values of the caller, answers
of the instance, the environment, the disk.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from gridapps_client import BadAnswer, Client, GridAppsError
from gridapps_client.configuration import Configuration
from gridapps_client.models import Output

from client.tests.loopback import Server, reply

OUTPUT = Output(path="0/a", task="t", size=1, sha256="0" * 64, media_type="x/y", partial=False, url="")


def _cyclic() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "pointer", "said"),
    [
        (math.nan, "/arguments/cell", "nan is not a JSON number"),
        (-math.inf, "/arguments/cell", "-inf is not a JSON number"),
        (object(), "/arguments/cell", "a object is not a JSON value"),
        ({1, 2}, "/arguments/cell", "a set is not a JSON value"),
        (b"x", "/arguments/cell", "a bytes is not a JSON value"),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), "/arguments/cell", "a datetime is not a JSON value"),  # noqa: UP017
        ("\ud800", "/arguments/cell", "half a character"),
        ([1, {"a/b": math.nan}], "/arguments/cell/1/a~1b", "not a JSON number"),
        ({("a",): 1}, "/arguments/cell/('a',)", "a tuple cannot be a name"),
    ],
)
def test_values_that_json_cannot_hold(
    server: Server, client: Client, value: object, pointer: str, said: str
) -> None:
    with pytest.raises(GridAppsError, match="values that JSON cannot hold") as caught:
        client.submit("ground", export="1", arguments={"cell": value})
    assert caught.value.code == "usage"
    [fault] = caught.value.fields
    assert fault.pointer == pointer
    assert said in fault.error
    assert server.requests == [], "nothing was sent"


def test_values_without_end(server: Server, client: Client) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in (_cyclic(), deep):
        with pytest.raises(GridAppsError) as caught:
            client.submit("ground", export="1", arguments={"a": value})
        assert caught.value.code == "usage"
    assert server.requests == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.app("Bad Name"),
        lambda client: client.app("a" * 64),
        lambda client: client.app("../me"),
        lambda client: list(client.releases("")),
        lambda client: client.update_app("ground", etag="\ud800", title="t"),
        lambda client: client.update_app("ground", etag="ü", title="t"),
        lambda client: client.run("\ud800"),
        lambda client: client.run("a\0b"),
        lambda client: client.run(".."),
        lambda client: list(client.runs(app="\ud800")),
        lambda client: client.find_run("latest"),
        lambda client: client.find_run("abc"),
        lambda client: client.output_url("run", "0/\udcff"),
    ],
)
def test_names_are_checked_before_the_call(
    server: Server, client: Client, ask: Callable[[Client], object]
) -> None:
    server.answer = lambda handler: reply(handler, 404, b"{}")
    with pytest.raises(GridAppsError) as caught:
        ask(client)
    assert caught.value.code == "usage"
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "https://[",
        "https://x:y",
        "https://a b",
        "https://\x00",
        "https://" + "a" * 70,
        "ftp://x",
        "https://u@x",
        "",
    ],
)
def test_addresses(url: str) -> None:
    with pytest.raises(GridAppsError), Client(url) as client:
        client.me()


@pytest.mark.parametrize("token", ["ü", "a\nb", " ", "\ud800"])
def test_tokens(server: Server, token: str) -> None:
    with pytest.raises(GridAppsError, match="invalid characters"):
        Client(server.url, token=token)
    server.answer = lambda handler: reply(handler, 401, b'{"error": "no"}')
    with Client(server.url, token="old", renew=lambda: token) as client, pytest.raises(GridAppsError):
        client.me()


CALLS: list[Callable[[Client, Path], object]] = [
    lambda client, _: client.me(),
    lambda client, _: client.developer(),
    lambda client, _: list(client.certificates()),
    lambda client, _: client.create_certificate(name="n"),
    lambda client, _: list(client.apps()),
    lambda client, _: client.app("ground"),
    lambda client, _: client.counts("ground"),
    lambda client, _: list(client.shares("ground")),
    lambda client, _: client.create_hook(target="t", events=["e"]),
    lambda client, _: list(client.hook_deliveries("1")),
    lambda client, _: list(client.exports()),
    lambda client, _: client.submit("ground", export="1"),
    lambda client, _: client.find_run("last"),
    lambda client, _: client.wait("abcd"),
    lambda client, _: list(client.log("abcd")),
    lambda client, _: list(client.outputs("abcd")),
    lambda client, to: client.download("abcd", OUTPUT, to=to),
    lambda client, to: client.download_zip("abcd", to=to / "z.zip"),
]
_SOUND = {"username": "u", "administrator": False, "developer": "none", "access_tags": []}
BODIES = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'{"next": 3}',
    b"NaN",
    b"[" * 100_000,
    b'{"user": 1e400}',
    b'{"runs": [{"id": "x"}]}',
    b'{"apps": {}, "runs": {}, "exports": {}, "outputs": {}}',
    json.dumps({name: [None] for name in ("apps", "runs", "exports", "outputs", "hooks")}).encode(),
    json.dumps({"user": _SOUND | {"access_tags": [1]}}).encode(),
    b'{"counts": {"since": "2026-99-01T00:00:00Z", "until": "2026-01-01", "in_all": [], "recent": []}}',
    b"9" * 5000,
    b"1 2",
    ("9" * 5000 + " now text\n").encode(),
]


@pytest.mark.parametrize("status", [200, 206, 304, 404, 416])
def test_answers_of_the_wrong_form(server: Server, client: Client, tmp_path: Path, status: int) -> None:
    for body in BODIES:
        for headers in ({}, {"Content_Range": "bytes x", "ETag": '"e"'}, {"Content_Encoding": "gzip"}):
            server.answer = lambda handler, body=body, headers=headers: reply(
                handler, status, b"" if status == 304 else body, **headers
            )
            for number, call in enumerate(CALLS):
                try:
                    call(client, tmp_path)
                except GridAppsError:
                    continue
                # Two bodies are logs. Everything else is refused.
                assert (number, body) in [(14, b""), (14, b"1 2")]


def test_numbers_beyond_every_float(server: Server, client: Client) -> None:
    resources = {"cpus": 10**400, "memory": 1, "disk": 1, "time": 1}
    server.answer = lambda handler: reply(
        handler, 200, json.dumps({"apps": [{"resources": resources}]}).encode()
    )
    with pytest.raises(BadAnswer):
        client.app("ground")


@pytest.fixture
def unusable(tmp_path: Path) -> Path:
    """A path below a file."""
    (tmp_path / "file").write_text("x")
    return tmp_path / "file" / "below"


def test_errors_of_the_disk(server: Server, client: Client, unusable: Path) -> None:
    server.answer = lambda handler: reply(handler, 200, b"x")
    for call in (
        lambda: client.download("run", OUTPUT, to=unusable),
        lambda: client.download_zip("run", to=unusable / "z.zip"),
        lambda: Configuration(unusable).instance(),
        lambda: Configuration(unusable).keep_authority(server.url, "x"),
        lambda: Configuration(unusable.parent.parent).keep_authority(server.url, "\ud800"),
    ):
        with pytest.raises(GridAppsError) as caught:
            call()
        assert caught.value.code in {"disk", "no-instance"}


def test_a_target_with_too_long_a_name(server: Server, client: Client, tmp_path: Path) -> None:
    server.answer = lambda handler: reply(handler, 200, b"x")
    with pytest.raises(GridAppsError, match="cannot be"):
        client.download("run", OUTPUT, to=tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "foo://x"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("HTTPS_PROXY", "http://[::"),
        ("SSLKEYLOGFILE", "/nowhere/keys"),
        ("GRIDAPPS_URL", "https://["),
        ("GRIDAPPS_CA", "/nowhere/ca.crt"),
        ("GRIDAPPS_TOKEN", "ü"),
        ("GRIDAPPS_CONFIG", "/dev/null"),
        ("GRIDAPPS_CONFIG", "/dev/null/x"),
    ],
)
def test_invalid_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("GRIDAPPS_URL", "https://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    with pytest.raises(GridAppsError), Client.configured() as client:
        client.me()


def test_no_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("GRIDAPPS_CONFIG", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(GridAppsError, match="GRIDAPPS_CONFIG"):
        Client.configured()
