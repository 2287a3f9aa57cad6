"""The calls about the user, Apps and releases."""

import pytest

from gridapps.access import operations as access
from gridapps.registry.models import Release
from tests.api.conftest import DIGEST, Callers, MakeApp

pytestmark = pytest.mark.django_db


def test_everybody_sees_who_one_is(callers: Callers) -> None:
    assert callers.developer("GET", "/me").json() == {
        "user": {"username": "developer", "administrator": False, "developer": "verified", "access_tags": []}
    }
    assert callers.administrator("GET", "/me").json()["user"]["administrator"] is True


def test_asking_to_be_a_developer(callers: Callers) -> None:
    assert callers.analyst("GET", "/developer").json()["developer"]["state"] == "none"
    first = callers.analyst("POST", "/developer", {"statement": "roads"})
    assert (first.status_code, first.json()["developer"]["state"]) == (201, "requested")
    assert callers.analyst("POST", "/developer", {"statement": "rails"}).status_code == 200
    access.verify_developer(user=callers.analyst.user, by=None)
    answer = callers.analyst("GET", "/developer").json()["developer"]
    assert (answer["state"], answer["statement"]) == ("verified", "rails")
    assert answer["decided_at"].endswith("Z")


def test_a_developer_creates_an_app(callers: Callers) -> None:
    schema = {"type": "object", "properties": {"r": {"type": "number", "default": 1}}}
    body = {"id": "roads", "title": "Roads", "arguments": schema, "resources": {"time": 60.0}}
    answer = callers.developer("POST", "/apps", body)
    assert answer.status_code == 201
    (app,) = answer.json()["apps"]
    assert app["arguments"] == schema
    assert app["resources"]["time"] == 60
    assert (app["owner"], app["runnable"], app["release"]) == ("developer", False, None)
    assert app["repository"] == "localhost:5443/roads"
    shown = callers.developer("GET", "/apps/roads")
    assert shown.json()["apps"] == [app]
    assert shown["ETag"] == answer["ETag"]


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"arguments": {"type": "array"}}, "invalid-schema", "/arguments/type"),
        ({"arguments": {"type": "object", "properties": {"a": {"$ref": "http://x"}}}}, "invalid-schema",
         "/arguments/properties/a/$ref"),
        ({"resources": {"memory": 2**50}}, "invalid-request", "/resources/memory"),
        ({"title": " \n "}, "invalid-request", "/title"),
    ],
)  # fmt: skip
def test_bad_apps_are_refused_with_the_place(
    callers: Callers, body: dict[str, object], code: str, pointer: str
) -> None:
    answer = callers.developer("POST", "/apps", {"id": "roads", "title": "Roads"} | body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.json()["fields"][0]["pointer"] == pointer


def test_only_developers_create_apps_and_each_id_once(callers: Callers) -> None:
    body = {"id": "roads", "title": "Roads"}
    refused = callers.analyst("POST", "/apps", body)
    assert (refused.status_code, refused.json()["code"]) == (403, "not-a-developer")
    assert callers.developer("POST", "/apps", body).status_code == 201
    assert callers.developer("POST", "/apps", body).status_code == 409
    assert callers.developer("DELETE", "/apps/roads").status_code == 204
    assert callers.developer("GET", "/apps/roads").status_code == 404
    assert callers.developer("POST", "/apps", body).json()["code"] == "conflict"


def test_a_change_is_lost_to_nobody(callers: Callers, make_app: MakeApp) -> None:
    make_app(description="old")
    seen = callers.developer("GET", "/apps/roads")["ETag"]
    changed = callers.developer("PATCH", "/apps/roads", {"title": "Ways"}, **{"If-Match": seen})
    assert changed.status_code == 200
    assert (changed.json()["apps"][0]["title"], changed.json()["apps"][0]["description"]) == ("Ways", "old")
    late = callers.developer("PATCH", "/apps/roads", {"title": "Late"}, **{"If-Match": seen})
    assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")
    assert callers.developer("PATCH", "/apps/roads", {"title": "Any"}, **{"If-Match": "*"}).status_code == 200


def test_an_outsider_sees_no_app(callers: Callers, make_app: MakeApp) -> None:
    make_app()
    absent = callers.outsider("GET", "/apps/none")
    for method, path in (
        ("GET", "/apps/roads"), ("PATCH", "/apps/roads"), ("DELETE", "/apps/roads"),
        ("GET", "/apps/roads/releases"),
    ):  # fmt: skip
        answer = callers.outsider(method, path, {} if method == "PATCH" else None)
        assert answer.status_code == 404, (method, path, answer.content)
        if method == "GET":
            assert answer.content == absent.content, "the answers for foreign and absent Apps are equal"
    assert callers.outsider("GET", "/apps").json() == {"apps": []}
    assert len(callers.administrator("GET", "/apps").json()["apps"]) == 1
    assert callers.administrator("GET", "/apps?mine=true").json() == {"apps": []}


def test_releases_with_their_reasons(callers: Callers, make_app: MakeApp) -> None:
    app = make_app()
    assert callers.developer("GET", "/apps/roads").json()["apps"][0]["runnable"] is True
    Release.objects.filter(app=app).update(state="refused", reasons=["No ENTRYPOINT."], remarks=["Hidden."])
    for caller in (callers.developer, callers.administrator):
        (release,) = caller("GET", "/apps/roads/releases").json()["releases"]
        assert (release["digest"], release["tags"], release["state"]) == (DIGEST, ["v1"], "refused")
        assert (release["reasons"], release["remarks"]) == (["No ENTRYPOINT."], ["Hidden."])
    assert callers.developer("GET", "/apps/roads").json()["apps"][0]["release"] is None


def test_pages_follow_each_other_without_gap_or_double(callers: Callers, make_app: MakeApp) -> None:
    names = [f"app-{i:02}" for i in range(7)]
    for name in names:
        make_app(name, released=False)
    found, path = [], "/apps?limit=3"
    while path:
        answer = callers.developer("GET", path).json()
        found.append([app["id"] for app in answer["apps"]])
        path = answer.get("next", "").partition("/api/v3")[2]
    assert found == [names[:3], names[3:6], names[6:]]


def test_a_mark_of_another_list_is_refused(callers: Callers, make_app: MakeApp) -> None:
    make_app("a", released=False)
    make_app("b", released=False)
    mark = callers.developer("GET", "/apps?limit=1").json()["next"].partition("?")[2]
    answer = callers.developer("GET", f"/exports?{mark}")
    assert (answer.status_code, answer.json()["fields"][0]["pointer"]) == (400, "?after")
