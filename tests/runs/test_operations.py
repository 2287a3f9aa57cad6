"""Submitting, canceling and retrying: what is accepted, what is refused and why, and repetitions."""

import uuid

import pytest
from django.utils import timezone

from gridapps.arguments.schemas import InvalidArguments
from gridapps.exports.models import Export, ExportFile
from gridapps.registry.models import App, Release, Tag
from gridapps.runs import operations, queries, queue
from gridapps.runs.errors import Conflict, InvalidRequest, NotFound, TooManyQueued
from gridapps.runs.models import Run, Task
from gridapps.runs.operations import Request
from gridapps.runs.states import State
from tests.runs.test_queue import LEASE, claim, succeed

SCHEMA = {
    "type": "object",
    "properties": {"resolution": {"type": "number", "default": 1}},
    "additionalProperties": False,
}


@pytest.fixture
def app(cast, release: Release) -> App:
    App.objects.update(owner=cast.developer, arguments=SCHEMA)
    return App.objects.get()


@pytest.fixture
def export(cast) -> Export:
    export = Export.objects.create(owner=cast.developer, name="city")
    for index in range(2):
        ExportFile.objects.create(
            export=export, name=f"{index}.laz", path=f"{index}", size=1, sha256="", points=1,
            las_version="1.4", point_format=6, bounds=[], footprint=b"",
        )  # fmt: skip
    return export


@pytest.fixture
def submit(cast, app, export):
    def submit(*, by=None, key=None, **changes):
        request = {"app": app.app_id, "arguments": {}, "export": export.pk, **changes}
        return operations.submit(by=by or cast.developer, request=Request(**request), request_key=key)

    return submit


def test_a_run_has_one_task_per_file_and_its_defaults_filled_in(submit):
    run, new = submit()
    assert new
    assert run.tasks.count() == 2
    assert run.arguments == {"resolution": 1}
    assert Run.objects.get().state == State.QUEUED


def test_a_run_of_one_file_has_one_task(submit, export):
    file = export.files.last()
    run, _ = submit(export=None, exportfile=file.pk)
    assert run.exportfile == file
    assert run.tasks.get().exportfile == file


def test_the_same_request_under_the_same_key_is_one_run(submit):
    key = uuid.uuid4()
    first, new = submit(key=key)
    again, repeated = submit(key=key)
    assert (new, repeated) == (True, False)
    assert first == again
    with pytest.raises(Conflict):
        submit(key=key, arguments={"resolution": 2})
    assert Run.objects.count() == 1


def test_arguments_are_held_against_the_schema(submit):
    with pytest.raises(InvalidArguments) as error:
        submit(arguments={"resolution": "fine", "other": 1})
    assert {pointer for pointer, _ in error.value.fields} >= {"/resolution"}
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    "changes", [{"export": 10**6}, {"export": None, "exportfile": 10**6}, {"app": "other"}]
)
def test_what_does_not_exist_is_not_found(submit, changes):
    with pytest.raises(NotFound):
        submit(**changes)


def test_what_is_not_ones_own_is_not_found_either(submit, cast):
    for who in (cast.outsider, cast.analyst, cast.administrator):
        with pytest.raises(NotFound):
            submit(by=who)


@pytest.mark.parametrize("changes", [{"export": None}, {"exportfile": 1}])
def test_exactly_one_of_export_and_file(submit, changes):
    with pytest.raises(InvalidRequest):
        submit(**changes)


def test_a_release_is_named_by_digest_or_tag(submit, app, release):
    newer = Release.objects.create(
        app=app, digest="sha256:" + "1" * 64, media_type="m", state="valid", size=1, layers=1,
        pushed_at=timezone.now(),
    )  # fmt: skip
    Tag.objects.create(app=app, name="old", release=release, moved_at=timezone.now())
    assert submit()[0].release == newer
    assert submit(release="old")[0].release == release
    assert submit(release=release.digest)[0].release == release
    with pytest.raises(InvalidRequest):
        submit(release="missing")


def test_a_refused_release_cannot_be_run(submit, release):
    Release.objects.update(state="refused", reasons=["no entry point"])
    with pytest.raises(Conflict):
        submit()
    with pytest.raises(InvalidRequest):
        submit(release=release.digest)


def test_more_than_the_instance_has_is_refused_by_name(submit):
    with pytest.raises(InvalidRequest) as error:
        submit(resources={"memory": 10**18, "cpus": 10**6})
    assert {pointer for pointer, _ in error.value.fields} == {"/resources/memory", "/resources/cpus"}


def test_less_than_a_container_needs_is_refused_by_name_and_unit(submit):
    with pytest.raises(InvalidRequest) as error:
        submit(resources={"memory": 10, "cpus": 1e-12, "disk": 1, "time": 0})
    told = dict(error.value.fields)
    assert set(told) == {f"/resources/{name}" for name in ("memory", "cpus", "disk", "time")}
    assert told["/resources/memory"].startswith("From 16 MiB to ")


def test_an_app_that_is_older_than_the_smallest_amounts_is_refused_at_the_run(submit, release):
    App.objects.update(memory=10)
    with pytest.raises(InvalidRequest) as error:
        submit()
    assert [pointer for pointer, _ in error.value.fields] == ["/resources/memory"]


def test_the_queue_of_a_user_is_bounded(submit, settings):
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"max_queued": 3})
    submit()
    with pytest.raises(TooManyQueued):
        submit()
    assert Run.objects.count() == 1


def test_cancel_ends_what_waits_and_asks_what_runs(submit):
    run, _ = submit()
    mine = claim()
    run = operations.cancel(by=run.owner, run=run)
    assert run.state == State.RUNNING
    assert queue.cancel_requested(claims=[mine]) == {mine.token}
    assert queue.claim(node="one", lease=LEASE) is None
    queue.finish(claim=mine, state=State.CANCELED, reason="canceled", text="")
    run.refresh_from_db()
    assert run.state == State.CANCELED
    with pytest.raises(Conflict):
        operations.cancel(by=run.owner, run=run)


def test_retry_runs_only_what_failed(submit):
    run, _ = submit()
    with pytest.raises(Conflict):
        operations.retry(by=run.owner, run=run)
    succeed(claim())
    queue.finish(claim=claim(), state=State.FAILURE, reason="program-failed", text="exit 1")
    again = operations.retry(by=run.owner, run=run)
    assert again.retry_of == run
    assert again.tasks.get().exportfile == run.tasks.get(index=1).exportfile
    assert Task.objects.get(run=run, index=1).state == State.FAILURE
    succeed(claim())
    with pytest.raises(Conflict):
        operations.retry(by=again.owner, run=again)


def test_runs_are_visible_to_their_owner_alone(submit, cast):
    run, _ = submit()
    assert list(queries.visible_to(cast.developer)) == [run]
    for who in (cast.analyst, cast.outsider, cast.administrator):
        assert not queries.visible_to(who).exists()
