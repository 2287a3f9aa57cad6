"""What needs a real server: long polling, the followed log, outputs and the streamed zip."""

import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

import httpx
import pytest
from gridapps_client import Client

from tests.api.seed import FILES
from tests.api.server import Server, serving

pytestmark = pytest.mark.service


@dataclass
class Scene:
    server: Server
    tokens: dict[str, str]
    ended: str
    waiting: str

    def get(self, path: str, who: str = "developer", **headers: str) -> httpx.Response:
        with self.server.client(self.tokens[who]) as client:
            return client.get(f"/api/v3{path}", headers=headers)

    def change(self, run: str, statement: str) -> None:
        """Change the run's rows, as a worker would, after a moment."""
        self.server.python(
            "import time; from django.utils import timezone; from gridapps.runs.models import *\n"
            f"run = Run.objects.filter(pk={run!r}); tasks = Task.objects.filter(run={run!r})\n{statement}"
        )

    def later(self, run: str, statement: str) -> threading.Thread:
        thread = threading.Thread(target=self.change, args=(run, statement))
        thread.start()
        return thread

    def submit(self) -> str:
        with self.server.client(self.tokens["developer"]) as client:
            answer = client.post("/api/v3/apps/roads/runs", json={"export": 1})
            return str(answer.json()["runs"][0]["run_id"])


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with serving() as server:
        facts = json.loads(server.python("from tests.api import seed; seed.main()"))
        yield Scene(server, facts["tokens"], facts["ended"], facts["waiting"])


def test_a_wait_ends_with_the_next_change(scene: Scene) -> None:
    run = scene.submit()
    seen = scene.get(f"/runs/{run}").headers["ETag"]
    thread = scene.later(run, "run.update(version=7, message='half', progress=.5)")
    start = time.monotonic()
    answer = scene.get(f"/runs/{run}?wait=60", **{"If-None-Match": seen})
    assert time.monotonic() - start < 50
    thread.join()
    assert (answer.status_code, answer.json()["runs"][0]["message"]) == (200, "half")
    assert answer.headers["ETag"] == '"7"'


def test_a_wait_without_change_ends_in_time(scene: Scene) -> None:
    run = scene.submit()
    seen = scene.get(f"/runs/{run}").headers["ETag"]
    start = time.monotonic()
    assert scene.get(f"/runs/{run}?wait=1", **{"If-None-Match": seen}).status_code == 304
    assert 0.9 < time.monotonic() - start < 50
    assert scene.get(f"/runs/{run}?wait=1").status_code == 200


def test_nobody_waits_for_what_has_changed_or_ended_already(scene: Scene) -> None:
    start = time.monotonic()
    assert scene.get(f"/runs/{scene.waiting}?wait=60", **{"If-None-Match": '"0"'}).status_code == 200
    assert scene.get(f"/runs/{scene.ended}?wait=60").status_code == 200
    assert scene.get(f"/runs/{scene.ended}?wait=60", "outsider").status_code == 404
    assert time.monotonic() - start < 50


def test_many_wait_at_once_on_few_threads_and_no_connection(scene: Scene) -> None:
    run = scene.submit()
    codes: list[int] = []

    def wait() -> None:
        codes.append(scene.get(f"/runs/{run}?wait=60").status_code)

    threads = [threading.Thread(target=wait) for _ in range(70)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 50
    while len(codes) < 38:
        assert time.monotonic() < end
        time.sleep(0.1)
    status = Path(f"/proc/{scene.server.pid}/status").read_text()
    count = int(re.findall(r"^Threads:\s+(\d+)$", status, re.M)[0])
    assert codes == [200] * 38, "32 places for one user; the others poll"
    followed = scene.get(f"/runs/{run}/log?follow=1")
    assert followed.text == "retry: 5000\n\nevent: begin\ndata: {}\n\n", "and so do followers"
    scene.change(run, "run.update(version=9)")
    for thread in threads:
        thread.join()
    assert codes == [200] * 70
    assert count < 20, f"{count} threads for 32 waiting clients"


def test_a_followed_log_continues_behind_any_event(scene: Scene) -> None:
    path = f"/runs/{scene.ended}/log?follow=1"
    begin, *pieces = scene.get(path).text.removeprefix("retry: 1000\n\n").split("\n\n")[:-1]
    assert begin == "event: begin\ndata: {}"
    numbers = [piece.partition("\n")[0].removeprefix("id: ") for piece in pieces[:-1]]
    assert numbers == ["0.1:40", "0,1.1:40"]
    for position, number in enumerate(numbers, 1):
        rest = "retry: 1000\n\n" + "".join(f"{piece}\n\n" for piece in pieces[position:])
        assert scene.get(path, **{"Last-Event-ID": number}).text == rest
        assert scene.get(f"{path}&after={number}").text == rest
        assert scene.get(f"{path}&after=0.1:1", **{"Last-Event-ID": number}).text == rest
    for wrong in ("x", "0.1", "0.1:", "1-", "0.1:40,", "0.1:40;", "9" * 3000):
        assert "event: begin" in scene.get(path, **{"Last-Event-ID": wrong}).text
    assert scene.get(f"{path}&after={'9' * 3000}").status_code == 400
    far = scene.get(path, **{"Last-Event-ID": "0-99999999,0.1:999999999999999,5.7:1"}).text
    assert far == "retry: 1000\n\n" + pieces[-1] + "\n\n"


def test_the_log_as_text(scene: Scene) -> None:
    answer = scene.get(f"/runs/{scene.ended}/log")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text == (
        "0 2026-01-01T00:00:00Z task 0 says: hello\n1 2026-01-01T00:00:01Z task 1 says: hello\n"
    )
    assert scene.get(f"/runs/{scene.ended}/log?task=1").text.startswith("1 ")
    absent = scene.get(f"/runs/{scene.ended}/log?task=7")
    assert (absent.status_code, absent.json()["error"]) == (
        404,
        "The run has no task 7: its tasks are 0 to 1.",
    )
    assert scene.get(f"/runs/{scene.ended}/log?task=-1").status_code == 400
    assert scene.get(f"/runs/{scene.ended}/log?follow=2").status_code == 400
    for path in (f"/runs/{scene.ended}/log", f"/runs/{scene.ended}/log?follow=1", f"/runs/{uuid4()}/log"):
        assert scene.get(path, "outsider").status_code == 404


def events(text: Iterator[str]) -> Iterator[tuple[str, dict[str, object]]]:
    name = ""
    for line in text:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


def test_the_log_of_an_ended_run_can_be_followed_to_its_end(scene: Scene) -> None:
    answer = scene.get(f"/runs/{scene.ended}/log?follow=1")
    assert answer.headers["Content-Type"] == "text/event-stream"
    _, *found = events(iter(answer.text.splitlines()))
    assert found[0] == ("line", {"task": 0, "at": "2026-01-01T00:00:00Z", "text": "task 0 says: hello"})
    assert [name for name, _ in found] == ["line", "line", "end"]
    assert found[-1][1] == {"state": "SUCCESS"}


def test_a_followed_log_keeps_up_with_lines_attempts_and_the_end(scene: Scene) -> None:
    run = scene.submit()
    log = scene.server.data / "outputs" / run / "0"
    (log / "1").mkdir(parents=True)
    (log / "2").mkdir()
    (log / "1" / "log").write_text("T1 one\nT2 half a li")
    scene.change(run, "tasks.filter(index=0).update(attempt=1); run.update(version=2)")
    found = []
    with (
        scene.server.client(scene.tokens["developer"]) as client,
        client.stream("GET", f"/api/v3/runs/{run}/log?follow=1") as answer,
    ):
        for name, data in events(answer.iter_lines()):
            if name == "begin":
                continue
            found.append((name, data.get("text")))
            if data.get("text") == "one":
                with (log / "1" / "log").open("a") as file:
                    file.write("ne\u2028\x1b[31m\n")
            elif data.get("at") == "T2":
                (log / "2" / "log").write_text("T3 again\n")
                scene.change(run, "tasks.filter(index=0).update(attempt=2); run.update(version=3)")
            elif data.get("text") == "again":
                with (log / "2" / "log").open("a") as file:
                    file.write("T4 last\n")
                scene.change(
                    run, "run.update(version=4, state='FAILURE', reason='x', ended_at=timezone.now())"
                )
    assert found == [
        ("line", "one"), ("line", "half a line\u2028\x1b[31m"), ("line", "again"), ("line", "last"),
        ("end", None),
    ]  # fmt: skip


def test_a_log_that_was_cut_in_the_middle_says_so_once_and_goes_on(scene: Scene) -> None:
    """The beginning has 12 bytes, and the newest lines begin at byte 1000; later at byte 2000."""
    run = scene.submit()
    log = scene.server.data / "outputs" / run / "0" / "1"
    (log / "log.tail").mkdir(parents=True)
    (log / "log").write_text("T1 one\nT2 t\n")
    (log / "log.tail" / f"{1000:012}").write_text("T5 five\nT6 six\n")
    scene.change(run, "tasks.filter(index=0).update(attempt=1); run.update(version=2)")
    whole = ["T1 one", "T2 t", "T5 [988 bytes of the log are left out here]", "T5 five", "T6 six"]
    assert scene.get(f"/runs/{run}/log").text.splitlines() == [f"0 {line}" for line in whole]
    found = []
    with Client(scene.server.url, token=scene.tokens["developer"]) as client:
        for line in client.follow_log(run):
            found.append(f"{line.at} {line.text}")
            if line.text == "six":
                # The client is too slow for what comes now: lines 7 and 8 are removed before it reads them.
                (log / "log.tail" / f"{2000:012}").write_text("T9 nine\n")
                (log / "log.tail" / f"{1000:012}").unlink()
                scene.change(run, "run.update(version=3)")
            elif line.text == "nine":
                with (log / "log.tail" / f"{2000:012}").open("a") as file:
                    file.write("T9 ten\n")
                scene.change(
                    run, "run.update(version=4, state='FAILURE', reason='x', ended_at=timezone.now())"
                )
    assert found == [*whole, "T9 [985 bytes of the log are left out here]", "T9 nine", "T9 ten"]
    # A reader that was away while the lines were removed.
    later = scene.get(f"/runs/{run}/log?follow=1", **{"Last-Event-ID": "0.1:1008"})
    texts = [data["text"] for name, data in events(iter(later.text.splitlines())) if name == "line"]
    assert texts == ["[992 bytes of the log are left out here]", "nine", "ten"]


def test_outputs_are_listed_and_handed_to_nginx(scene: Scene) -> None:
    outputs = scene.get(f"/runs/{scene.ended}/outputs").json()["outputs"]
    assert {output["path"] for output in outputs} == {f"{i}/{name}" for i in (0, 1) for name in FILES}
    assert not any(output["partial"] for output in outputs)
    for output in outputs:
        answer = scene.get(output["url"].partition("/api/v3")[2])
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''")
        index, _, name = output["path"].partition("/")
        inside = unquote(answer.headers["X-Accel-Redirect"])
        assert inside == f"/internal/outputs/{scene.ended}/{index}/1/files/{name}"
    (page,) = [scene.get(f"/runs/{scene.ended}/outputs?limit=3").json()]
    rest = scene.get(page["next"].partition("/api/v3")[2]).json()
    assert [o["path"] for o in page["outputs"] + rest["outputs"]] == [o["path"] for o in outputs]


@pytest.mark.parametrize(
    "path", ["0", "0/", "2/dtm.tif", "x/dtm.tif", "0/%2e%2e/log", "0//dtm.tif", "0/a%00b",
             "00000000000/dtm.tif"]
)  # fmt: skip
def test_no_path_leads_elsewhere(scene: Scene, path: str) -> None:
    answer = scene.get(f"/runs/{scene.ended}/outputs/{path}")
    assert answer.status_code == 404
    assert "X-Accel-Redirect" not in answer.headers


def test_outputs_are_not_for_others(scene: Scene) -> None:
    for path in ("outputs", "outputs/0/dtm.tif", "outputs.zip"):
        for who in ("outsider", "administrator"):
            assert scene.get(f"/runs/{scene.ended}/{path}", who).status_code == 404


def test_the_zip_holds_every_output_under_its_listed_name(scene: Scene) -> None:
    answer = scene.get(f"/runs/{scene.ended}/outputs.zip")
    assert answer.headers["Content-Type"] == "application/zip"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"{index}/{name}".replace("\\", "%5C"): data for index in (0, 1) for name, data in FILES.items()
        }
    assert scene.get(f"/runs/{scene.waiting}/outputs.zip").status_code == 200
