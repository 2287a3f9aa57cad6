"""Submitting, seeing, canceling and retrying runs; exports; tasks in GRiD v3's shape."""

import io
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from gridapps.access import operations as access
from gridapps.api.native import outputs
from gridapps.registry.models import App
from gridapps.runs import queue, store
from gridapps.runs.models import Node, Output, Run, Task
from gridapps.runs.states import State
from gridapps.runs.store import AttemptFiles
from tests.api.conftest import DIGEST, Caller, Callers, MakeApp, MakeExport

pytestmark = pytest.mark.django_db
SCHEMA = {
    "type": "object",
    "properties": {
        "r": {"type": "number", "minimum": 0.1, "default": 1},
        "l": {"items": {"type": "integer"}},
    },
    "additionalProperties": False,
}


@pytest.fixture
def app(make_app: MakeApp) -> App:
    return make_app(arguments=SCHEMA)


def submit(callers: Callers, export: object, **more: object) -> str:
    answer = callers.developer("POST", "/apps/roads/runs", {"export": export} | more)
    assert answer.status_code == 202, answer.content
    (run,) = answer.json()["runs"]
    assert run["run_id"] == run["task_id"]
    return str(run["run_id"])


def test_a_run_from_submission_to_the_shape_of_its_tasks(
    callers: Callers, app: App, make_export: MakeExport
) -> None:
    export = make_export(callers.developer.user)
    key = submit(callers, str(export.pk), arguments={"l": [1]}, resources={"cpus": 0.5}, release="v1")
    answer = callers.developer("GET", f"/runs/{key}")
    (run,) = answer.json()["runs"]
    assert answer["ETag"] == f'"{run["version"]}"'
    assert run["arguments"] == {"r": 1, "l": [1]}
    assert run["resources"]["cpus"] == 0.5
    assert (run["state"], run["release"], run["app"]) == ("QUEUED", DIGEST, "roads")
    assert run["task_counts"] == {"QUEUED": 2}
    assert run["usage"] == {"cpu_seconds": 0, "memory_bytes": 0, "disk_bytes": 0}
    assert [task["name"] for task in run["tasks"]] == ["0.laz", "1.laz"]
    assert run["urls"]["self"] == f"https://localhost:5443/api/v3/runs/{key}"
    (listed,) = callers.developer("GET", "/runs").json()["runs"]
    in_full = {"tasks", "queue_position", "waiting_for"}
    assert listed == {name: value for name, value in run.items() if name not in in_full}
    (task,) = callers.developer("GET", f"/tasks/{key}").json()["tasks"]
    assert (task["task_id"], task["state"], task["object_id"]) == (key, "QUEUED", export.pk)
    assert callers.developer("GET", "/tasks?state=SUCCESS").json() == {"tasks": []}


def test_a_run_shows_its_priority_its_place_in_the_queue_and_its_attempts(
    callers: Callers, app: App, make_export: MakeExport
) -> None:
    export = make_export(callers.developer.user)
    first, urgent = submit(callers, str(export.pk)), submit(callers, str(export.pk), priority=5.0)

    def shown(key: str) -> dict[str, Any]:
        (run,) = callers.developer("GET", f"/runs/{key}").json()["runs"]
        return dict(run)

    assert [(shown(key)["priority"], shown(key)["queue_position"]) for key in (first, urgent)] == [
        (0, 2),
        (5, 0),
    ]
    for _ in range(2):
        mine = queue.claim(node="one", lease=timedelta(seconds=60))
        assert mine is not None
        used = {"cpu_seconds": 1.5, "memory_bytes": 10, "disk_bytes": 20}
        queue.finish(
            claim=mine, state=State.FAILURE, reason="program-failed", text="", exit_code=3, usage=used
        )
    done = shown(urgent)
    assert done["queue_position"] is None
    (attempt,) = done["tasks"][0]["attempts"]
    assert (attempt["node"], attempt["reason"], attempt["exit_code"]) == ("one", "program-failed", 3)
    assert attempt["usage"] == used
    assert attempt["started_at"] <= attempt["ended_at"]
    assert shown(first)["queue_position"] == 0


@pytest.mark.parametrize("priority", [11, -11, 0.5, "1", None])
def test_a_priority_out_of_range_has_its_pointer(
    callers: Callers, app: App, make_export: MakeExport, priority: object
) -> None:
    export = make_export(callers.developer.user)
    answer = callers.developer("POST", "/apps/roads/runs", {"export": str(export.pk), "priority": priority})
    assert answer.status_code == 400
    assert [field["pointer"] for field in answer.json()["fields"]] == ["/priority"]


def test_a_quota_is_refused_with_numbers(
    callers: Callers, app: App, make_export: MakeExport, settings: Any
) -> None:
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"max_outputs": 1})
    export = make_export(callers.developer.user)
    answer = callers.developer("POST", "/apps/roads/runs", {"export": str(export.pk)})
    assert (answer.status_code, answer.json()["code"]) == (409, "quota-exceeded")
    assert "at most 1 bytes are allowed" in answer.json()["error"]


def test_one_export_file_makes_one_task(callers: Callers, app: App, make_export: MakeExport) -> None:
    file = make_export(callers.developer.user).files.all()[1]
    answer = callers.developer("POST", "/apps/roads/runs", {"exportfile": file.pk})
    (run,) = callers.developer("GET", f"/runs/{answer.json()['runs'][0]['run_id']}").json()["runs"]
    assert run["exportfile"] == str(file.pk)
    assert [task["name"] for task in run["tasks"]] == ["1.laz"]


def test_usage_sums_up_what_tasks_took(callers: Callers, app: App, make_export: MakeExport) -> None:
    key = submit(callers, make_export(callers.developer.user).pk)
    for task, usage in zip(Task.objects.filter(run__pk=key), ((1.5, 10, 3), (2, 20, 4)), strict=True):
        task.usage = dict(zip(("cpu_seconds", "memory_bytes", "disk_bytes"), usage, strict=True))
        task.save()
    (run,) = callers.developer("GET", "/runs").json()["runs"]
    assert run["usage"] == {"cpu_seconds": 3.5, "memory_bytes": 20, "disk_bytes": 7}


@pytest.mark.parametrize(
    ("body", "code", "pointers"),
    [
        ({}, "invalid-request", ["/export"]),
        ({"export": "1", "exportfile": "1"}, "invalid-request", ["/exportfile"]),
        ({"export": "x"}, "invalid-request", ["/export"]),
        ({"export": 0}, "invalid-request", ["/export"]),
        ({"export": True}, "invalid-request", ["/export"]),
        ({"exportfile": 1, "resources": {"cpus": "1"}}, "invalid-request", ["/resources/cpus"]),
        ({"export": 1, "arguments": []}, "invalid-request", ["/arguments"]),
        ({"export": 1, "arguments": {"r": 0, "l": [1, "x"]}}, "invalid-arguments",
         ["/arguments/r", "/arguments/l/1"]),
        ({"export": 1, "arguments": {"of an export": 1}}, "invalid-arguments", ["/arguments"]),
        ({"export": 1, "release": "sha256:" + "0" * 64}, "invalid-request", ["/release"]),
        ({"export": 1, "release": "../x"}, "invalid-request", ["/release"]),
        ({"export": 1, "resources": {"memory": 2**50}}, "invalid-request", ["/resources/memory"]),
    ],
)  # fmt: skip
def test_each_fault_of_a_submission_has_its_pointer(  # noqa: PLR0917 (fixtures and parameters)
    callers: Callers,
    app: App,
    make_export: MakeExport,
    body: dict[str, object],
    code: str,
    pointers: list[str],
) -> None:
    export = make_export(callers.developer.user)
    if body.get("export") == 1 and body["export"] is not True:
        body = body | {"export": export.pk}
    answer = callers.developer("POST", "/apps/roads/runs", body)
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.content
    assert {field["pointer"] for field in answer.json()["fields"]} == set(pointers)
    assert not Run.objects.exists()


def test_the_same_submission_under_a_key_makes_one_run(
    callers: Callers, app: App, make_export: MakeExport
) -> None:
    path, body = f"/apps/roads/runs/{uuid4()}", {"export": make_export(callers.developer.user).pk}
    first, again = callers.developer("PUT", path, body), callers.developer("PUT", path, body)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    other = callers.developer("PUT", path, body | {"arguments": {"r": 2}})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert Run.objects.count() == 1


def test_nobody_runs_what_is_not_theirs(callers: Callers, app: App, make_export: MakeExport) -> None:
    mine, foreign = make_export(callers.developer.user), make_export(callers.analyst.user)
    cases = [
        (callers.developer, "roads", {"export": foreign.pk}),
        (callers.developer, "roads", {"exportfile": foreign.files.all()[0].pk}),
        (callers.developer, "none", {"export": mine.pk}),
        (callers.analyst, "roads", {"export": foreign.pk}),
        (callers.administrator, "roads", {"export": mine.pk}),
    ]
    for caller, app_id, body in cases:
        answer = caller("POST", f"/apps/{app_id}/runs", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_an_outsider_sees_no_run_and_no_export(callers: Callers, app: App, make_export: MakeExport) -> None:
    export = make_export(callers.developer.user)
    key = submit(callers, export.pk)
    for caller in (callers.outsider, callers.administrator):
        absent = caller("GET", f"/runs/{uuid4()}")
        for method, path in (
            ("GET", f"/runs/{key}"), ("GET", f"/tasks/{key}"), ("GET", f"/exports/{export.pk}"),
            ("POST", f"/runs/{key}/cancel"), ("POST", f"/runs/{key}/retry"),
        ):  # fmt: skip
            answer = caller(method, path)
            assert (answer.status_code, answer.content) == (404, absent.content), path
        assert caller("GET", "/runs").json() == {"runs": []}
        assert caller("GET", "/tasks").json() == {"tasks": []}
        assert caller("GET", "/exports").json() == {"exports": []}


def test_several_keys_are_all_or_nothing(callers: Callers, app: App, make_export: MakeExport) -> None:
    exports = [make_export(callers.developer.user) for _ in range(2)]
    keys = [submit(callers, export.pk) for export in exports]
    both = callers.developer("GET", f"/runs/{','.join(keys)}").json()["runs"]
    assert [run["id"] for run in both] == keys
    assert callers.developer("GET", f"/runs/{keys[0]},{uuid4()}").status_code == 404
    pks = f"{exports[1].pk},{exports[0].pk}"
    shown = callers.developer("GET", f"/exports/{pks}").json()["exports"]
    assert [export["pk"] for export in shown] == pks.split(",")
    assert shown[0]["exportfiles"][0]["geom"].startswith("POLYGON")
    assert callers.developer("GET", f"/exports/{pks},999999").status_code == 404


def test_cancel_and_retry(callers: Callers, app: App, make_export: MakeExport) -> None:
    key = submit(callers, make_export(callers.developer.user).pk, arguments={"r": 5})
    assert callers.developer("POST", f"/runs/{key}/retry").status_code == 409
    answer = callers.developer("POST", f"/runs/{key}/cancel")
    assert answer.status_code == 202
    (run,) = answer.json()["runs"]
    assert (run["state"], run["cancel_requested"], run["reason"]) == ("CANCELED", True, "canceled")
    assert callers.developer("POST", f"/runs/{key}/cancel").status_code == 409
    again = callers.developer("POST", f"/runs/{key}/retry")
    assert again.status_code == 202
    (run,) = callers.developer("GET", f"/runs/{again.json()['runs'][0]['run_id']}").json()["runs"]
    assert (run["retry_of"], run["arguments"], run["state"]) == (key, {"r": 5}, "QUEUED")


def test_a_list_of_runs_is_filtered_and_paged(callers: Callers, app: App, make_export: MakeExport) -> None:
    export = make_export(callers.developer.user)
    keys = [submit(callers, export.pk) for _ in range(5)]
    Run.objects.filter(pk__in=keys).update(created_at=timezone.now())
    first = callers.developer("GET", "/runs?limit=3&state=QUEUED&app=roads").json()
    rest = callers.developer("GET", first["next"].partition("/api/v3")[2]).json()
    found = [run["id"] for run in first["runs"] + rest["runs"]]
    assert sorted(found) == sorted(keys)
    assert "next" not in rest
    assert callers.developer("GET", "/runs?app=other").json() == {"runs": []}
    assert callers.developer("GET", "/runs?state=SUCCESS").json() == {"runs": []}


def test_runs_are_found_by_the_first_digits_of_their_ids(
    callers: Callers, app: App, make_export: MakeExport
) -> None:
    export = make_export(callers.developer.user)
    ids = [UUID(submit(callers, export.pk)) for _ in range(3)]

    def found(prefix: str) -> list[str]:
        return [run["id"] for run in callers.developer("GET", f"/runs?prefix={prefix}").json()["runs"]]

    for each in ids:
        for length in (1, 7, 8, 13, 32):
            expected = {str(other) for other in ids if other.hex.startswith(each.hex[:length])}
            assert set(found(each.hex[:length])) == expected
    assert callers.outsider("GET", f"/runs?prefix={ids[0].hex}").json() == {"runs": []}
    for bad in ("", "g", "A", "-", "0" * 33):
        assert callers.developer("GET", f"/runs?prefix={bad}").status_code == 400, bad


def test_if_none_match_answers_304_until_the_run_changes(
    callers: Callers, app: App, make_export: MakeExport
) -> None:
    key = submit(callers, make_export(callers.developer.user).pk)
    seen = callers.developer("GET", f"/runs/{key}")["ETag"]
    same = callers.developer("GET", f"/runs/{key}", **{"If-None-Match": seen})
    assert (same.status_code, same.content, same["ETag"]) == (304, b"", seen)
    callers.developer("POST", f"/runs/{key}/cancel")
    changed = callers.developer("GET", f"/runs/{key}?wait=60", **{"If-None-Match": seen})
    assert changed.status_code == 200
    ended = callers.developer("GET", f"/runs/{key}?wait=60", **{"If-None-Match": changed["ETag"]})
    assert ended.status_code == 304, "an ended run does not change, so the answer does not wait"


def test_a_zip_of_too_many_outputs_is_refused(
    callers: Callers, app: App, make_export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = submit(callers, str(make_export(callers.developer.user).pk), release="v1")
    task = Task.objects.filter(run__pk=key)[0]
    for name in ("a", "b"):
        Output.objects.create(task=task, path=name, size=1, sha256="0" * 64, media_type="text/plain")
    monkeypatch.setattr(outputs, "MAX_ZIPPED", 1)
    answer = callers.developer("GET", f"/runs/{key}/outputs.zip")
    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"
    assert "2 outputs" in answer.json()["error"]


def test_a_zip_keeps_names_with_backslashes_apart_and_lists_what_is_missing(
    callers: Callers, ended: str
) -> None:
    task = Task.objects.get(run__pk=ended)
    for path in ("x%5Cy", "x\\y"):
        (AttemptFiles(task.run_id, 0, 1).files / path).write_text(path)
        Output.objects.create(task=task, path=path, size=len(path), sha256="0" * 64, media_type="text/plain")
    missing = {"path": "Geb\\xe4ude", "why": "has a name that is not UTF-8.", "lost": True}
    Task.objects.update(left_out=[missing], left_out_count=3)
    answer = callers.developer("GET", f"/runs/{ended}/outputs.zip")

    async def content() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    with zipfile.ZipFile(io.BytesIO(async_to_sync(content)())) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert texts == {
        "0/a": "x",
        "0/x%5Cy": "x%5Cy",
        "0/x%5Cy_": "x\\y",
        "left-out.txt": "0/Geb\\xe4ude has a name that is not UTF-8.\n2 more.\n",
    }
    listed = callers.developer("GET", f"/runs/{ended}/outputs?limit=1").json()
    assert listed["left_out_count"] == 3
    assert listed["left_out"] == [missing | {"path": "0/Geb\\xe4ude", "task": str(task.pk)}]
    (run,) = callers.developer("GET", f"/runs/{ended}").json()["runs"]
    assert (run["tasks"][0]["left_out"], run["tasks"][0]["left_out_count"]) == ([missing], 3)


@pytest.fixture
def ended(callers: Callers, app: App, make_export: MakeExport, settings: Any, tmp_path: Path) -> str:
    """The key of a run that succeeded and left an output and a log."""
    settings.DATA, settings.STORAGE = tmp_path, ""
    key = submit(callers, str(make_export(callers.developer.user, files=1).pk))
    task = Task.objects.get(run__pk=key)
    Task.objects.update(state="SUCCESS", attempt=1, ended_at=timezone.now(), progress=1)
    Run.objects.update(state="SUCCESS", ended_at=timezone.now(), progress=1)
    place = AttemptFiles(task.run_id, 0, 1)
    place.files.mkdir(parents=True)
    (place.files / "a").write_bytes(b"x")
    place.log.write_text("2026-01-01T00:00:00Z hello\n")
    Output.objects.create(task=task, path="a", size=1, sha256="0" * 64, media_type="text/plain")
    return key


@pytest.mark.parametrize("follow", ["", "&follow=1"])
def test_the_log_of_a_task_that_is_not_there_is_not_empty_but_missing(
    callers: Callers, ended: str, follow: str
) -> None:
    answer = callers.developer("GET", f"/runs/{ended}/log?task=99{follow}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert answer.json()["error"] == "The run has no task 99: its tasks are 0 to 0."
    assert callers.developer("GET", f"/runs/{ended}/log?task=0{follow}").status_code == 200


def test_outputs_are_deleted_and_the_run_says_so(callers: Callers, ended: str) -> None:
    before = callers.developer("GET", f"/runs/{ended}")
    for _ in range(2):
        answer = callers.developer("DELETE", f"/runs/{ended}/outputs")
        assert (answer.status_code, answer.content) == (204, b"")
    for path in ("outputs", "outputs.zip", "outputs/0/a", "outputs/9/never-was", "log", "log?follow=1"):
        answer = callers.developer("GET", f"/runs/{ended}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (410, "gone"), path
        assert f"removed on {timezone.now():%Y-%m-%d}" in answer.json()["error"]
    after = callers.developer("GET", f"/runs/{ended}", **{"If-None-Match": before["ETag"]})
    (run,) = after.json()["runs"]
    assert run["outputs_removed_at"]
    same = {"outputs_removed_at", "version"}
    (known,) = before.json()["runs"]
    assert {name: value for name, value in run.items() if name not in same} == {
        name: value for name, value in known.items() if name not in same
    }


def test_outputs_are_deleted_by_nobody_else_and_not_before_the_end(callers: Callers, ended: str) -> None:
    for caller in (callers.analyst, callers.administrator, callers.outsider):
        assert caller("DELETE", f"/runs/{ended}/outputs").status_code == 404
    for wrong in (uuid4(), "1", f"{ended},{ended}"):
        assert callers.developer("DELETE", f"/runs/{wrong}/outputs").status_code == 404
    token = access.issue_token(
        by=None, user=callers.developer.user, lifetime=timedelta(hours=1), scopes=["runs:read"]
    )
    narrow = Caller(callers.developer.user, token)
    assert narrow("DELETE", f"/runs/{ended}/outputs").status_code == 403
    Run.objects.update(state="RUNNING", ended_at=None)
    answer = callers.developer("DELETE", f"/runs/{ended}/outputs")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert Output.objects.count() == 1


def test_a_run_says_when_its_outputs_will_go(callers: Callers, ended: str, settings: Any) -> None:
    def shown() -> dict[str, Any]:
        return dict(callers.developer("GET", f"/runs/{ended}").json()["runs"][0])

    assert shown()["outputs_expire_at"] is None
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"keep_outputs": 30})
    at = Run.objects.get().ended_at
    assert at is not None
    assert shown()["outputs_expire_at"][:19] == f"{at + timedelta(days=30):%Y-%m-%dT%H:%M:%S}"


@pytest.mark.parametrize(("removed", "status"), [(True, 410), (False, 500)])
def test_a_zip_that_meets_the_removal_ends_with_a_sentence(
    callers: Callers, ended: str, monkeypatch: pytest.MonkeyPatch, removed: bool, status: int
) -> None:
    path = store.path

    def path_and_then_gone(output: Output) -> Path | None:
        found = path(output)
        assert found is not None
        found.unlink()
        if removed:
            Run.objects.update(outputs_removed_at=timezone.now())
        return found

    monkeypatch.setattr(store, "path", path_and_then_gone)
    assert callers.developer("GET", f"/runs/{ended}/outputs.zip").status_code == status


def test_nothing_is_submitted_while_the_disk_is_nearly_full(
    callers: Callers, app: App, make_export: MakeExport, settings: Any
) -> None:
    export = str(make_export(callers.developer.user).pk)
    key, known = submit(callers, export), str(uuid4())
    assert callers.developer("PUT", f"/apps/roads/runs/{known}", {"export": export}).status_code == 202
    callers.developer("POST", f"/runs/{key}/cancel")
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"min_free_disk": 2**60})
    for method, path, body in (
        ("POST", "/apps/roads/runs", {"export": export}),
        ("PUT", f"/apps/roads/runs/{uuid4()}", {"export": export}),
        ("POST", f"/runs/{key}/retry", None),
    ):
        answer = callers.developer(method, path, body)
        assert answer.status_code == 507, answer.content
        assert answer.json()["code"] == "insufficient-storage"
        assert "The instance's disk is nearly full" in answer.json()["error"]
    assert callers.developer("PUT", f"/apps/roads/runs/{known}", {"export": export}).status_code == 200
    assert Run.objects.count() == 2


def test_a_queued_run_says_that_the_disks_of_nodes_are_nearly_full(
    callers: Callers, app: App, make_export: MakeExport
) -> None:
    key = submit(callers, str(make_export(callers.developer.user).pk))

    def message() -> str:
        (run,) = callers.developer("GET", f"/runs/{key}").json()["runs"]
        return str(run["message"])

    def node(name: str, **changes: Any) -> None:
        fields = {"cpus": 64, "memory": 2**40, "disk": 2**40, "free_disk": 2**30, "min_free_disk": 2**31}
        Node.objects.create(
            name=name, slots=1, version="1", session=uuid4(), started_at=timezone.now(),
            last_seen_at=timezone.now(), **fields | changes,
        )  # fmt: skip

    assert message() == ""
    node("small", memory=1)
    node("stopped", free_disk=2**40)
    Node.objects.filter(name="stopped").update(session=None)
    assert message() == ""
    node("one")
    assert (
        message()
        == "Waits: the disk of node one is nearly full: 1 GiB are free, and 2 GiB have to stay free."
    )
    node("two", free_disk=2**31)
    assert message() == ""
