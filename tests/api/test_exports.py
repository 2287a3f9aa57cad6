"""Renaming and deleting exports through the API."""

import pytest

from gridapps.exports.models import Export
from gridapps.runs.models import Run
from tests.api.conftest import Callers, MakeApp, MakeExport, caller


def test_an_export_is_renamed(callers: Callers, make_export: MakeExport) -> None:
    export = make_export(callers.analyst.user)
    answer = callers.analyst("PATCH", f"/exports/{export.pk}", {"name": " River "})
    assert answer.status_code == 200
    (shown,) = answer.json()["exports"]
    assert (shown["pk"], shown["name"], len(shown["exportfiles"])) == (str(export.pk), "River", 2)


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\nb", "\u202ecity", "\u2800", "\u3164"])
def test_other_names_are_refused(callers: Callers, make_export: MakeExport, name: str) -> None:
    export = make_export(callers.analyst.user)
    answer = callers.analyst("PATCH", f"/exports/{export.pk}", {"name": name})
    assert answer.status_code == 400
    assert answer.json()["fields"][0]["pointer"] == "/name"
    assert Export.objects.get().name == "city"


def test_an_export_is_deleted_with_its_runs_stopped(
    callers: Callers, make_app: MakeApp, make_export: MakeExport
) -> None:
    make_app()
    export = make_export(callers.developer.user)
    callers.developer("POST", "/apps/roads/runs", {"export": export.pk})
    refused = callers.developer("DELETE", f"/exports/{export.pk}")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert callers.developer("DELETE", f"/exports/{export.pk}?stop=true").status_code == 204
    assert callers.developer("DELETE", f"/exports/{export.pk}").status_code == 404
    assert callers.developer("GET", f"/exports/{export.pk}").status_code == 404
    assert callers.developer("GET", "/exports").json() == {"exports": []}
    assert Run.objects.get().state == "CANCELED"


def test_a_token_that_may_see_exports_changes_none(callers: Callers, make_export: MakeExport) -> None:
    export = make_export(callers.analyst.user)
    narrow = caller(callers.analyst.user, "exports")
    assert narrow("GET", f"/exports/{export.pk}").status_code == 200
    for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
        assert narrow(method, f"/exports/{export.pk}", body).json()["code"] == "insufficient-scope"
    writing = caller(callers.analyst.user, "exports:write")
    assert writing("DELETE", f"/exports/{export.pk}").status_code == 204


def test_a_call_for_one_export_takes_no_list(callers: Callers, make_export: MakeExport) -> None:
    keys = ",".join(str(make_export(callers.analyst.user).pk) for _ in range(2))
    assert callers.analyst("DELETE", f"/exports/{keys}").status_code == 404
    assert callers.analyst("PATCH", f"/exports/{keys}", {"name": "River"}).status_code == 404
    assert Export.objects.filter(name="city", deleted_at=None).count() == 2
