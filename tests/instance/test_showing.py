"""A run that is shown to the developer of its App, over a real instance; taken back while it is watched."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.fixtures.people import Person
from tests.instance.conftest import SetStage, Stage
from tests.instance.test_sharing import command, set_up

pytestmark = pytest.mark.system


def follow(who: Person, run: str, begun: threading.Event) -> list[str]:
    """The names of the events of a log, up to the end of the answer."""
    names = []
    with who.client() as client, client.stream("GET", f"/api/v3/runs/{run}/log?follow=1") as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("event: ") and line != "event: begin":
                names.append(line.removeprefix("event: "))
                begun.set()
    return names


def wait(who: Person, run: str, etag: str) -> httpx.Response:
    with who.client() as client:
        return client.get(f"/api/v3/runs/{run}?wait=50", headers={"If-None-Match": etag}, timeout=60)


def test_a_run_is_shown_and_taken_back_while_it_is_watched(stage: Stage, set_stage: SetStage) -> None:
    sharing = set_up(set_stage(stage.instance))
    stage, developer, analyst = sharing.stage, sharing.stage.developer, sharing.analyst
    sharing.wait(sharing.share())
    done = sharing.submit()
    run = sharing.submit("sleep", seconds=60)
    analyst.ask("PUT", f"/runs/{done}/developer")
    analyst.wait(done, "SUCCESS")
    assert developer.ask("GET", f"/runs/{done}/outputs/0/numbers.txt").text.startswith("1\n2\n")
    assert developer.ask("GET", f"/runs/{done}/outputs.zip").content.startswith(b"PK")

    analyst.wait_for_progress(run)
    developer.ask("GET", f"/runs/{run}", expect=404)
    command(analyst, "runs", "show-to-developer", run)
    listed = json.loads(command(developer, "runs", "list", "--shown", "--app", stage.app, "--json"))
    assert [each["id"] for each in listed["runs"]] == [run, done]
    assert developer.ask("GET", "/runs").json() == {"runs": []}
    assert analyst.name not in json.dumps(developer.show(run))
    developer.ask("POST", f"/runs/{run}/cancel", expect=404)
    begun = threading.Event()
    etag = developer.ask("GET", f"/runs/{run}").headers["ETag"]
    with ThreadPoolExecutor() as pool:
        followed, waited = pool.submit(follow, developer, run, begun), pool.submit(wait, developer, run, etag)
        assert begun.wait(60)
        command(analyst, "runs", "hide-from-developer", run)
        hidden = time.monotonic()
        assert set(followed.result(60)) == {"line"}
        assert waited.result(60).status_code in {200, 404}  # 200: the run went on before it was hidden
        assert time.monotonic() - hidden < 45
    developer.ask("GET", f"/runs/{run}", expect=404)
    analyst.ask("POST", f"/runs/{run}/cancel")
    # Of today nothing is counted yet.
    counts = json.loads(command(developer, "app", "counts", stage.app, "--json"))
    assert counts["counts"]["in_all"] == []
    entries = sharing.administrator.ask("GET", "/audit", params={"subject": f"run:{done}"}).json()["entries"]
    assert {"run.shown", "outputs.downloaded"} <= {entry["event"] for entry in entries}
