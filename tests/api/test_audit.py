"""`/audit` over HTTP, and the refusals that are recorded."""

from datetime import timedelta

import pytest
from django.utils import timezone

from gridapps.audit.models import Entry
from gridapps.registry import operations
from tests.api.conftest import caller
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db


def test_administrators_read_it_and_nobody_else(cast: Cast) -> None:
    operations.create_app(by=cast.developer, app_id="roads", title="Roads")
    boss = caller(cast.administrator, "admin")
    found = boss("GET", "/audit?subject=app:roads").json()["entries"]
    assert [(entry["event"], entry["actor"]) for entry in found] == [
        ("app.created", f"user:{cast.developer.pk}")
    ]
    for user, scopes, code in (
        (cast.administrator, ["api"], "insufficient-scope"),
        (cast.developer, ["api"], "insufficient-scope"),
        (cast.developer, ["api", "admin"], "not-an-administrator"),
    ):
        answer = caller(user, *scopes)("GET", "/audit")
        assert (answer.status_code, answer.json()["code"]) == (403, code)


def test_times_and_pages(cast: Cast) -> None:
    for number in range(3):
        operations.create_app(by=cast.developer, app_id=f"roads-{number}", title="Roads")
    boss = caller(cast.administrator, "admin")
    page = boss("GET", "/audit?event=app.created&limit=2").json()
    rest = boss("GET", page["next"].partition("/api/v3")[2]).json()
    assert [each["subject"] for each in page["entries"] + rest["entries"]] == [
        f"app:roads-{number}" for number in range(3)
    ]
    now = timezone.now()
    soon, past = ((now + timedelta(hours=each)).strftime("%Y-%m-%dT%H:%M:%SZ") for each in (1, -1))
    assert len(boss("GET", f"/audit?since={past}&until={soon}&event=app.created").json()["entries"]) == 3
    assert boss("GET", f"/audit?since={soon}").json()["entries"] == []
    assert boss("GET", f"/audit?until={past}").json()["entries"] == []
    for wrong in (
        "since=0",
        "since=2026-01-01",
        "since=2026-13-01T00:00:00Z",
        "until=x",
        "actor=%00",
        "who=me",
    ):
        answer = boss("GET", f"/audit?{wrong}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request"), wrong


def test_who_is_refused_is_told_of_once(cast: Cast) -> None:
    operations.create_app(by=cast.developer, app_id="roads", title="Roads")
    narrow, outsider = caller(cast.analyst, "runs:read"), caller(cast.outsider, "api", "admin")
    for _ in range(3):
        assert narrow("GET", "/apps").status_code == 403
        body = {"access_tag": "city", "release": "v1"}
        assert outsider("POST", "/apps/roads/shares", body).status_code == 403
        assert outsider("POST", "/apps", {"id": "mine", "title": "Mine"}).status_code == 403
        assert outsider("GET", "/apps/roads").status_code == 404
    refused = Entry.objects.filter(event="refused").order_by("pk")
    assert [(entry.actor, entry.subject, entry.details["code"]) for entry in refused] == [
        (f"user:{cast.analyst.pk}", "call:/api/v3/apps", "insufficient-scope"),
        (f"user:{cast.outsider.pk}", "call:/api/v3/apps/roads/shares", "not-an-administrator"),
        (f"user:{cast.outsider.pk}", "call:/api/v3/apps", "not-a-developer"),
    ]
    assert all(entry.request for entry in refused)
