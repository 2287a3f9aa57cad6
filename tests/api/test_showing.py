"""A user shows a run to the developer of its App, who can read it, change nothing, and see no other run."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from gridapps.access import operations as access
from gridapps.access.models import AccessTag, User
from gridapps.api.native import log
from gridapps.audit.models import Entry
from gridapps.registry import operations as registry
from gridapps.registry.models import Release, Share
from gridapps.runs import operations, queries
from gridapps.runs.errors import NotFound
from gridapps.runs.models import Output, Run, Task
from gridapps.runs.store import AttemptFiles
from tests.api.conftest import Callers, MakeApp, MakeExport

READS = ("", "/log", "/outputs", "/outputs.zip", "/outputs/0/a.txt")


@pytest.fixture
def make_run(callers: Callers, make_app: MakeApp, make_export: MakeExport) -> Callable[[], Run]:
    """Makes runs of the analyst, of the developer's App, that have ended with an output and a log."""
    app = make_app()
    release = Release.objects.get()
    tag = AccessTag.objects.create(name="city")
    tag.holders.add(callers.analyst.user)
    Share.objects.create(
        app=app, release=release, access_tag=tag, state="active", activated_at=timezone.now(), title="Roads",
        arguments={"type": "object"}, cpus=1, memory=2**24, disk=2**20, time=60,
    )  # fmt: skip
    export = make_export(callers.analyst.user)

    def make() -> Run:
        wanted = operations.Request(app="roads", export=export.pk, arguments={"secret": 7})
        run, _ = operations.submit(by=callers.analyst.user, request=wanted)
        (settings.DATA / "outputs").mkdir(parents=True, exist_ok=True)
        for task in run.tasks.all():
            place = AttemptFiles(run.pk, task.index, 1)
            place.make()
            place.files.mkdir(exist_ok=True)
            place.log.write_text("2026-01-01T00:00:00Z hello\n")
            (place.files / "a.txt").write_text("a")
            Output.objects.create(task=task, path="a.txt", size=1, sha256="0" * 64, media_type="text/plain")
        now = timezone.now()
        Task.objects.filter(run=run).update(state="FAILURE", reason="x", attempt=1, ended_at=now)
        Run.objects.filter(pk=run.pk).update(state="FAILURE", reason="x", ended_at=now)
        return run

    return make


def test_the_developer_sees_what_is_shown_and_only_that(
    callers: Callers, make_run: Callable[[], Run]
) -> None:
    shown, other = make_run(), make_run()
    answer = callers.analyst("PUT", f"/runs/{shown.pk}/developer")
    assert answer.json()["runs"][0]["shown_to_developer"] is True
    for path in READS:
        assert callers.developer("GET", f"/runs/{shown.pk}{path}").status_code == 200, path
        for who, run in (
            (callers.developer, other),
            (callers.outsider, shown),
            (callers.administrator, shown),
        ):
            assert who("GET", f"/runs/{run.pk}{path}").status_code == 404
    told = Entry.objects.filter(subject=f"run:{shown.pk}", actor=f"user:{callers.developer.user.pk}")
    assert sorted(told.values_list("event", flat=True)) == ["log.read", "outputs.downloaded"]
    (run,) = callers.developer("GET", f"/runs/{shown.pk}").json()["runs"]
    assert (run["arguments"], run["tasks"][0]["name"]) == ({"secret": 7}, "0.laz")
    assert callers.developer("GET", f"/tasks/{shown.pk}").status_code == 200
    assert callers.developer("GET", f"/runs/{shown.pk},{other.pk}").status_code == 404
    assert "analyst" not in str(run)


def test_ones_own_list_stays_ones_own(callers: Callers, make_run: Callable[[], Run]) -> None:
    shown = make_run()
    make_run()
    callers.analyst("PUT", f"/runs/{shown.pk}/developer")
    for path in ("/runs", "/runs?app=roads", "/tasks", "/runs?shown=false"):
        (rows,) = callers.developer("GET", path).json().values()
        assert rows == [], path
    listed = callers.developer("GET", "/runs?shown=true&app=roads&state=FAILURE").json()["runs"]
    assert [run["id"] for run in listed] == [str(shown.pk)]
    assert callers.developer("GET", "/runs?shown=true&app=rivers").json() == {"runs": []}
    for who in (callers.analyst, callers.outsider, callers.administrator):
        assert who("GET", "/runs?shown=true").json() == {"runs": []}


def test_the_developer_changes_nothing(callers: Callers, make_run: Callable[[], Run]) -> None:
    run = make_run()
    absent = "00000000-0000-4000-8000-000000000000"
    callers.analyst("PUT", f"/runs/{run.pk}/developer")
    before = Run.objects.values().get()
    for method, path in (
        ("POST", "cancel"), ("POST", "retry"), ("PUT", "developer"), ("DELETE", "developer"),
        ("DELETE", "outputs"),
    ):  # fmt: skip
        answer = callers.developer(method, f"/runs/{run.pk}/{path}")
        same = callers.developer(method, f"/runs/{absent}/{path}")
        assert answer.status_code in {404, 405}
        assert (answer.status_code, answer.content) == (same.status_code, same.content)
    page = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
    page.force_login(callers.developer.user)
    for path in ("cancel", "show", "hide"):
        assert page.post(f"/runs/{run.pk}/{path}").status_code == 404
    for operation in (operations.show_to_developer, operations.hide_from_developer):
        with pytest.raises(NotFound):
            operation(by=callers.outsider.user, run=run)
    assert Run.objects.values().get() == before


def test_it_is_taken_back_at_once(callers: Callers, make_run: Callable[[], Run]) -> None:
    run = make_run()
    path = f"/runs/{run.pk}"
    versions = []
    for method in ("PUT", "PUT", "DELETE", "DELETE"):
        assert callers.analyst(method, f"{path}/developer").status_code in {200, 204}
        versions.append(Run.objects.get().version)
    # A watching client gets one answer for each change.
    assert [version - versions[0] for version in versions] == [0, 0, 1, 1]
    assert callers.developer("GET", path).status_code == 404
    assert callers.developer("GET", path, **{"If-None-Match": f'"{versions[-1]}"'}).status_code == 404
    # A followed log reads the run again with each change.
    assert log._present(callers.developer.user, run.pk, None) is None
    assert log._present(callers.analyst.user, run.pk, None) is not None


def lose_the_app(callers: Callers) -> None:
    registry.delete_app(by=callers.developer.user, app_id="roads")


def lose_the_verification(callers: Callers) -> None:
    access.refuse_developer(user=callers.developer.user, by=None)


@pytest.mark.parametrize("change", [lose_the_app, lose_the_verification])
def test_who_is_no_longer_the_developer_sees_no_longer(
    callers: Callers, make_run: Callable[[], Run], change: Callable[[Callers], None]
) -> None:
    run = make_run()
    callers.analyst("PUT", f"/runs/{run.pk}/developer")
    assert list(queries.shown_to(callers.developer.user)) == [run]
    change(callers)
    assert not queries.shown_to(callers.developer.user).exists()
    assert callers.developer("GET", f"/runs/{run.pk}").status_code == 404
    assert callers.analyst("GET", f"/runs/{run.pk}").status_code == 200
    # The user can hide it again, even if the App was deleted.
    assert callers.analyst("DELETE", f"/runs/{run.pk}/developer").status_code == 204


def test_a_retry_is_not_shown_and_not_told(callers: Callers, make_run: Callable[[], Run]) -> None:
    run = make_run()
    callers.analyst("PUT", f"/runs/{run.pk}/developer")
    again = callers.analyst("POST", f"/runs/{run.pk}/retry").json()["runs"][0]["run_id"]
    assert callers.developer("GET", f"/runs/{again}").status_code == 404
    callers.analyst("PUT", f"/runs/{again}/developer")
    callers.analyst("DELETE", f"/runs/{run.pk}/developer")
    shown = callers.developer("GET", f"/runs/{again}").json()["runs"][0]
    assert (shown["retry_of"], shown["queue_position"]) == (None, None)
    own = callers.analyst("GET", f"/runs/{again}").json()["runs"][0]
    assert (own["retry_of"], own["queue_position"]) == (str(run.pk), 0)


def test_there_must_be_somebody_to_see_it(
    callers: Callers, make_run: Callable[[], Run], make_export: MakeExport
) -> None:
    run = make_run()
    export = make_export(callers.developer.user)
    wanted = operations.Request(app="roads", export=export.pk, arguments={})
    own, _ = operations.submit(by=callers.developer.user, request=wanted)
    assert callers.developer("PUT", f"/runs/{own.pk}/developer").status_code == 409
    lose_the_app(callers)
    assert callers.analyst("PUT", f"/runs/{run.pk}/developer").status_code == 409


def test_on_the_pages(callers: Callers, make_run: Callable[[], Run]) -> None:
    run = make_run()

    def page(user: User, path: str, *, post: bool = False) -> Any:
        client = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
        client.force_login(user)
        return client.post(path, follow=True) if post else client.get(path)

    owner, developer = callers.analyst.user, callers.developer.user
    here = f"/runs/{run.pk}"
    assert page(developer, here).status_code == 404
    assert b"Show this run to the developer" in page(owner, here).content
    assert b"Hide it again" in page(owner, f"{here}/show", post=True).content
    shown = page(developer, here).content
    assert b"Another user shows you this run" in shown
    assert b"analyst" not in shown
    assert b"<form" not in shown.partition(b"<main")[2]
    assert str(run.pk).encode() in page(developer, "/apps/roads").content
    assert str(run.pk).encode() not in page(developer, "/").content
    assert str(run.pk).encode() not in page(callers.administrator.user, "/apps/roads").content
    page(owner, f"{here}/hide", post=True)
    assert page(developer, here).status_code == 404


def test_counts_are_for_the_owner_and_administrators(callers: Callers, make_run: Callable[[], Run]) -> None:
    make_run()
    Run.objects.update(ended_at=timezone.now() - timedelta(days=1, hours=1))
    for who in (callers.developer, callers.administrator):
        counts = who("GET", "/apps/roads/counts").json()["counts"]
        assert counts["recent"][0]["others"]["runs"] == {"SUCCESS": 0, "FAILURE": 1, "CANCELED": 0}
        assert counts["in_all"][0]["own"]["tasks"] == {"SUCCESS": 0, "FAILURE": 0, "CANCELED": 0}
    for other in (callers.analyst, callers.outsider):
        assert other("GET", "/apps/roads/counts").status_code == 404
