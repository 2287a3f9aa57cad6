"""The whole path over a real instance: push by certificate, run, watch, fetch the outputs."""

import contextlib
import hashlib
import io
import json
import time
import uuid
import zipfile

import httpx
import pytest

from tests.fixtures.instance import Instance, MakeInstance
from tests.fixtures.pointclouds import write_pointcloud
from tests.fixtures.postgresql import Cluster
from tests.instance.conftest import SetStage, Stage

pytestmark = pytest.mark.system


@pytest.fixture
def postgresql_stage(make_instance: MakeInstance, postgresql: Cluster, set_stage: SetStage) -> Stage:
    instance = make_instance(database=postgresql.create_database(f"i{uuid.uuid4().hex[:8]}"))
    instance.start()
    return set_stage(instance)


def test_a_run_gives_log_progress_and_outputs(stage: Stage):
    _whole_path(stage)


def test_the_same_on_postgresql(postgresql_stage: Stage):
    _whole_path(postgresql_stage)
    assert not list(postgresql_stage.instance.data.glob("*.sqlite3"))


def _whole_path(stage: Stage) -> None:
    developer = stage.developer
    run = stage.submit("summary", note="Grüße")
    shown = developer.wait(run, "SUCCESS")
    assert shown["progress"] == 1
    assert shown["message"] == "half"
    assert shown["task_counts"]["SUCCESS"] == 1
    assert shown["usage"]["disk_bytes"] > 0
    [task] = shown["tasks"]
    assert task["exit_code"] == 0
    assert len(task["attempts"]) == 1
    texts = [line.split(maxsplit=2) for line in developer.log(run).splitlines()]
    assert [(index, text) for index, _, text in texts] == [("0", "begin summary"), ("0", "end")]
    listed = developer.ask("GET", f"/runs/{run}/outputs").json()["outputs"]
    by_path = {output["path"]: output for output in listed}
    assert set(by_path) == {"0/arguments.json", "0/numbers.txt", "0/stdout.txt", "0/sub/input.sha256"}
    for path, output in by_path.items():
        content = developer.output(run, path)
        assert len(content) == output["size"]
        assert hashlib.sha256(content).hexdigest() == output["sha256"]
        assert output["partial"] is False
    assert developer.output(run, "0/stdout.txt") == b"on standard output\n"
    assert json.loads(developer.output(run, "0/arguments.json")) == {"do": "summary", "note": "Grüße"}
    digest = hashlib.sha256(stage.file.read_bytes()).hexdigest()
    assert developer.output(run, "0/sub/input.sha256").decode().split()[0] == digest


def test_an_output_is_served_in_ranges(stage: Stage):
    run = stage.submit("summary")
    stage.developer.wait(run, "SUCCESS")
    path = f"/runs/{run}/outputs/0/numbers.txt"
    whole = stage.developer.ask("GET", path).content

    def part(value: str, expect: int) -> bytes:
        return stage.developer.ask("GET", path, expect=expect, headers={"Range": value}).content

    assert part("bytes=10-19", 206) == whole[10:20]
    assert part("bytes=-7", 206) == whole[-7:]
    assert part(f"bytes={len(whole) - 3}-", 206) == whole[-3:]
    beyond = stage.developer.ask("GET", path, expect=416, headers={"Range": f"bytes={len(whole)}-"})
    assert beyond.json()["code"] == "range-not-satisfiable"
    assert beyond.headers["Content-Range"] == f"bytes */{len(whole)}"
    assert beyond.headers["Content-Type"] == "application/json"


def test_every_get_has_a_head(stage: Stage):
    """Through nginx, which sends outputs and static files by itself."""
    run = stage.submit("summary")
    stage.developer.wait(run, "SUCCESS")
    here = f"/api/v3/runs/{run}"
    with stage.developer.client() as client:
        for path in (
            here, f"{here}/outputs", f"{here}/outputs/0/numbers.txt", f"{here}/outputs.zip", f"{here}/log",
            f"{here}/outputs/0/none", "/api/v3/openapi.json", "/login", "/static/gridapps/run.js",
        ):  # fmt: skip
            get, head = client.get(path), client.head(path)
            assert head.status_code == get.status_code, path
            assert head.content == b""
            assert head.headers["Content-Type"] == get.headers["Content-Type"], path
            if path != f"{here}/log":
                assert head.headers["Content-Length"] == str(len(get.content)), path
        tag = client.head(f"{here}/outputs/0/numbers.txt").headers["ETag"]
        known = client.head(f"{here}/outputs/0/numbers.txt", headers={"If-None-Match": tag})
        assert known.status_code == 304
        part = client.head(f"{here}/outputs/0/numbers.txt", headers={"Range": "bytes=0-9"})
        assert (part.status_code, part.headers["Content-Length"]) == (206, "10")


def test_outputs_come_as_one_zip(stage: Stage):
    run = stage.submit("summary")
    stage.developer.wait(run, "SUCCESS")
    with zipfile.ZipFile(
        io.BytesIO(stage.developer.ask("GET", f"/runs/{run}/outputs.zip").content)
    ) as archive:
        assert archive.testzip() is None
        listed = stage.developer.ask("GET", f"/runs/{run}/outputs").json()["outputs"]
        inside = {entry.filename for entry in archive.infolist()}
        assert {output["path"] for output in listed} == inside


def test_what_is_deleted_while_it_is_read_breaks_off_or_goes_on(stage: Stage):
    """Never does a client take half for the whole."""
    run = stage.submit("fill", megabytes=14)
    stage.developer.wait(run, "SUCCESS")
    base, developer = f"/api/v3/runs/{run}/outputs", stage.developer
    with (
        developer.client() as client,
        client.stream("GET", f"{base}/0/big") as one,
        client.stream("GET", f"{base}.zip") as archive,
    ):
        assert (one.status_code, archive.status_code) == (200, 200)
        whole = int(archive.headers["Content-Length"])
        developer.ask("DELETE", f"/runs/{run}/outputs", expect=204)
        outputs = stage.instance.data / "outputs"
        stage.instance.wait_until(lambda: not list(outputs.glob(f"{run}/*/*/files/*")), what="removed")
        assert sum(map(len, one.iter_bytes())) == 14 * 1024**2
        with contextlib.suppress(httpx.RemoteProtocolError):
            assert sum(map(len, archive.iter_bytes())) == whole, "it was on its way already"
    assert "removed on" in developer.ask("GET", f"{base[len('/api/v3') :]}/0/big", expect=410).json()["error"]
    assert developer.show(run)["usage"]["disk_bytes"] > 14 * 1024**2


def test_the_log_is_followed_live_and_ends_with_the_run(stage: Stage):
    run = stage.submit("sleep", seconds=2)
    events: list[tuple[float, str]] = []
    with (
        stage.developer.client() as client,
        client.stream("GET", f"/api/v3/runs/{run}/log?follow=1") as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data:") and line != "data: {}":  # of the event `begin`
                events.append((time.monotonic(), line))
    first, last = events[0], events[-1]
    assert "begin sleep" in first[1]
    assert json.loads(last[1].removeprefix("data:")) == {"state": "SUCCESS"}
    assert last[0] - first[0] > 1, "the first line came only with the end"


def test_each_file_of_an_export_is_a_task(stage: Stage):
    developer = stage.developer
    files = [write_pointcloud(developer.home / f"{n}.laz", points=100 * n, east=100.0 * n) for n in (1, 2, 3)]
    export = stage.instance.import_export(*files, owner=developer.name)
    run = developer.submit(stage.app, export, arguments={"do": "summary"})
    shown = developer.wait(run, "SUCCESS")
    assert [task["name"] for task in shown["tasks"]] == ["1.laz", "2.laz", "3.laz"]
    for index, file in enumerate(files):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert developer.output(run, f"{index}/sub/input.sha256").decode().split()[0] == digest


def test_the_same_put_is_one_run(stage: Stage):
    key = uuid.uuid4()
    path, body = f"/apps/{stage.app}/runs/{key}", {"export": stage.export, "arguments": {"do": "summary"}}
    first = stage.developer.ask("PUT", path, expect=202, json=body).json()
    assert stage.developer.ask("PUT", path, expect=200, json=body).json() == first
    stage.developer.ask("PUT", path, expect=409, json={**body, "arguments": {"do": "fail"}})


def test_cancel_removes_the_container(stage: Stage, containers_of):
    run = stage.submit("sleep", seconds=60)
    stage.developer.wait_for_progress(run)
    assert len(containers_of(stage.instance)) == 1
    before = time.monotonic()
    stage.developer.ask("POST", f"/runs/{run}/cancel", expect=202)
    stage.developer.wait(run, "CANCELED")
    assert containers_of(stage.instance, running=True) == []
    stage.instance.wait_until(lambda: containers_of(stage.instance) == [], what="cleaned up")
    assert time.monotonic() - before < 55, "it did not end by itself"
    stage.developer.ask("POST", f"/runs/{run}/cancel", expect=409)


def test_a_failed_run_says_why_and_keeps_what_there_is(stage: Stage):
    run = stage.submit("fail")
    shown = stage.developer.wait(run, "FAILURE")
    assert shown["reason"] == "program-failed"
    assert "exit code 3. Its log ends: begin fail / nothing to be found here" in shown["reason_text"]
    assert shown["tasks"][0]["exit_code"] == 3
    assert "nothing to be found here" in stage.developer.log(run)
    outputs = stage.developer.ask("GET", f"/runs/{run}/outputs").json()["outputs"]
    assert {output["path"]: output["partial"] for output in outputs}["0/partial.txt"] is True
    assert len(shown["tasks"][0]["attempts"]) == 1, "a program's own failure is final"


def test_retry_runs_the_failed_tasks_again(stage: Stage):
    run = stage.submit("fail")
    stage.developer.wait(run, "FAILURE")
    again = stage.developer.ask("POST", f"/runs/{run}/retry", expect=202).json()["runs"][0]["run_id"]
    assert stage.developer.wait(again, "FAILURE")["retry_of"] == run


@pytest.mark.parametrize(
    ("resources", "arguments", "reason"),
    [
        ({"time": 2}, {"do": "sleep", "seconds": 60}, "out-of-time"),
        ({}, {"do": "eat"}, "out-of-memory"),
        ({}, {"do": "fill", "megabytes": 64}, "out-of-disk"),
        ({}, {"do": "fork"}, "out-of-processes"),
    ],
)
def test_a_crossed_limit_is_named(stage: Stage, resources, arguments, reason):
    run = stage.developer.submit(stage.app, stage.export, arguments=arguments, resources=resources)
    shown = stage.developer.wait(run, "FAILURE")
    assert shown["reason"] == reason, shown["reason_text"]


@pytest.mark.parametrize(
    ("entrypoint", "mode"), [("/missing", 0o755), ("/program", 0o644), ("/program", 0o700)]
)
def test_a_program_that_cannot_be_executed_is_a_failure_that_says_so(stage: Stage, engine, entrypoint, mode):
    image = engine.image(entrypoint=[entrypoint], files={"/program": (b"#!/bin/sh\n", mode)})
    app = f"app-{uuid.uuid4().hex[:8]}"
    stage.developer.create_app(app)
    stage.developer.push(image, app)
    run = stage.developer.submit(app, stage.export, arguments={})
    shown = stage.developer.wait(run, "FAILURE")
    assert entrypoint in shown["reason_text"]
    assert len(shown["tasks"][0]["attempts"]) == 1


def test_an_outsider_sees_nothing(stage: Stage):
    run = stage.submit("summary")
    stage.developer.wait(run, "SUCCESS")
    outsider = stage.person("outsider")
    for path in (
        f"/runs/{run}", f"/runs/{run}/log", f"/runs/{run}/outputs", f"/runs/{run}/outputs/0/numbers.txt",
        f"/runs/{run}/outputs.zip", f"/tasks/{run}", f"/apps/{stage.app}", f"/exports/{stage.export}",
    ):  # fmt: skip
        foreign, absent = outsider.ask("GET", path, expect=404), outsider.ask("GET", "/runs/0", expect=404)
        assert foreign.json()["code"] == absent.json()["code"] == "not-found"
    for noun in ("runs", "apps", "exports", "tasks"):
        assert outsider.ask("GET", f"/{noun}").json()[noun] == []
    outsider.ask("POST", f"/apps/{stage.app}/runs", expect=404, json={"export": stage.export})
    outsider.ask("POST", f"/runs/{run}/cancel", expect=404)


def test_the_internal_address_of_outputs_is_not_served(instance: Instance, stage: Stage):
    run = stage.submit("summary")
    stage.developer.wait(run, "SUCCESS")
    with stage.developer.client() as client:
        assert client.get(f"/internal/outputs/{run}/0/1/files/numbers.txt").status_code == 404
