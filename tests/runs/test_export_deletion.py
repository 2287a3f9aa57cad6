"""Deleting an export: what happens to runs, submissions, hooks, the audit and the files."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from gridapps.access.errors import NotAnAdministrator
from gridapps.audit.models import Entry
from gridapps.exports import queries
from gridapps.exports.errors import ExportNotFound
from gridapps.exports.models import Export
from gridapps.hooks.models import Delivery, Hook
from gridapps.housekeeping import lost_exports
from gridapps.registry.errors import InvalidShare
from gridapps.runs import export_deletion, operations
from gridapps.runs.errors import Conflict, NotFound
from gridapps.runs.models import Output, Run, Task
from gridapps.runs.states import State
from tests.api.conftest import make_app, make_export  # noqa: F401 - fixtures
from tests.fixtures.cast import Cast


@pytest.fixture
def export(cast: Cast, make_app: Any, make_export: Any) -> Export:  # noqa: F811
    make_app()
    return make_export(cast.developer, files=2)


def submitted(cast: Cast, export: Export) -> Run:
    request = operations.Request(app="roads", export=export.pk, arguments={})
    return operations.submit(by=cast.developer, request=request)[0]


def ended(run: Run) -> Run:
    Task.objects.filter(run=run).update(state=State.SUCCESS, ended_at=timezone.now(), lane=None)
    Run.objects.filter(pk=run.pk).update(state=State.SUCCESS, ended_at=timezone.now())
    return run


def subscribed(cast: Cast) -> Hook:
    return Hook.objects.create(
        owner=cast.developer, target="https://example.org", site="https://example.org:443",
        events=["export.deleted"], sealed_secret="s" * 40,
    )  # fmt: skip


def test_deleted_export_is_invisible_and_its_runs_keep_their_outputs(cast: Cast, export: Export) -> None:
    subscribed(cast)
    run = ended(submitted(cast, export))
    Output.objects.create(task=run.tasks.all()[0], path="a.txt", size=1, sha256="0" * 64, media_type="x/y")
    export_deletion.delete_export(by=cast.developer, export=export)
    assert not queries.visible_to(cast.developer).exists()
    run.refresh_from_db()
    assert (run.state, run.export_id, Output.objects.count()) == (State.SUCCESS, export.pk, 1)
    assert [task.exportfile.name for task in run.tasks.order_by("index")] == ["0.laz", "1.laz"]
    (sent,) = Delivery.objects.all()
    assert sent.facts == {"export": {"pk": str(export.pk), "name": "city", "reason": None}}
    (entry,) = Entry.objects.filter(event="export.deleted")
    assert (entry.subject, entry.details) == (f"export:{export.pk}", {"files": 2})


def test_no_run_can_be_submitted_or_retried_on_a_deleted_export(cast: Cast, export: Export) -> None:
    run = submitted(cast, export)
    operations.cancel(by=cast.developer, run=run)
    export_deletion.delete_export(by=cast.developer, export=export)
    file = export.files.all()[0]
    for request in (
        operations.Request(app="roads", arguments={}, export=export.pk),
        operations.Request(app="roads", arguments={}, exportfile=file.pk),
    ):
        with pytest.raises(NotFound):
            operations.submit(by=cast.developer, request=request)
    with pytest.raises(Conflict, match="The export was deleted on"):
        operations.retry(by=cast.developer, run=run)


def test_a_submission_that_has_read_the_export_before_is_refused(
    cast: Cast, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = operations._files

    def then_deleted(*arguments: Any) -> Any:
        found = find(*arguments)
        export_deletion.delete_export(by=cast.developer, export=export)
        return found

    monkeypatch.setattr(operations, "_files", then_deleted)
    with pytest.raises(Conflict, match="The export was deleted on"):
        submitted(cast, export)
    assert not Run.objects.exists()


def test_active_runs_prevent_the_deletion_of_an_export(cast: Cast, export: Export) -> None:
    submitted(cast, export)
    with pytest.raises(Conflict, match=r"^1 of your runs on this export have not ended"):
        export_deletion.delete_export(by=cast.developer, export=export)
    assert queries.visible_to(cast.developer).get() == export


def test_deletion_with_stop_cancels_active_runs(cast: Cast, export: Export) -> None:
    run = submitted(cast, export)
    export_deletion.delete_export(by=cast.developer, export=export, stop=True)
    run.refresh_from_db()
    assert (run.state, run.reason_text) == (State.CANCELED, "The export of this run was deleted.")


def test_an_administrator_gives_a_reason(cast: Cast, export: Export) -> None:
    subscribed(cast)
    run = submitted(cast, export)
    with pytest.raises(NotAnAdministrator):
        export_deletion.remove_export(by=cast.developer, export=export, reason="x")
    with pytest.raises(InvalidShare):
        export_deletion.remove_export(by=cast.administrator, export=export, reason="two\nlines")
    with pytest.raises(ExportNotFound):
        export_deletion.delete_export(by=cast.administrator, export=export)
    export_deletion.remove_export(by=cast.administrator, export=export, reason="not licensed")
    run.refresh_from_db()
    assert run.reason_text == "Canceled by an administrator, who deleted the export: not licensed"
    assert Delivery.objects.get().facts["export"]["reason"] == "not licensed"
    assert Entry.objects.get(event="export.deleted").details == {"files": 2, "reason": "not licensed"}
    with pytest.raises(ExportNotFound):
        export_deletion.remove_export(by=cast.administrator, export=export, reason="again")


def test_files_of_a_deleted_export_are_removed_once_its_runs_have_ended(
    cast: Cast, export: Export, settings: Any, tmp_path: Path
) -> None:
    settings.DATA = tmp_path
    directory, other = tmp_path / "exports" / str(export.pk), tmp_path / "exports" / "other"
    directory.mkdir(parents=True)
    other.mkdir()
    run = submitted(cast, export)
    until = timezone.now() + timedelta(hours=1)
    Task.objects.filter(run=run).update(state=State.RUNNING, token=run.pk, lease_until=until, lane=None)
    assert lost_exports.tidy_deleted() == []
    export_deletion.delete_export(by=cast.developer, export=export, stop=True)
    assert lost_exports.find_deleted() == [], "containers that start now still need the files"
    Task.objects.filter(run=run).update(
        state=State.CANCELED, token=None, lease_until=None, ended_at=timezone.now()
    )
    assert lost_exports.find_deleted() == [f"exports/{export.pk}"]
    assert lost_exports.tidy_deleted() == [f"exports/{export.pk}"]
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["other"]
    long_ago = time.time() - 2 * lost_exports.GRACE.total_seconds()
    os.utime(other, (long_ago, long_ago))
    assert lost_exports.find() == ["exports/other"]
