"""`/hooks`: GRiD v3's shape, only the user's own, secrets shown once, deliveries, tests, hooks of runs."""

from uuid import uuid4

import pytest

from gridapps.hooks.models import Delivery, Hook
from tests.api.conftest import Callers, MakeApp, MakeExport

pytestmark = pytest.mark.django_db
NEW = {"event": "run.started,run.complete", "target": "https://example.org/hook"}


def create(callers: Callers, **changes: object) -> dict[str, str]:
    answer = callers.analyst("POST", "/hooks", NEW | changes)
    assert answer.status_code == 201, answer.content
    body = answer.json()
    (hook,) = body["hooks"]
    return {**hook, "secret": body["secret"]}


def test_a_hook_from_creation_to_deletion(callers: Callers) -> None:
    made = create(callers)
    pk, secret = made["pk"], made.pop("secret")
    assert len(secret) >= 40
    assert made | {"created_at": ""} == {
        "pk": pk, "version": "3", "user": "analyst", "aoi": None, "created_at": "", "active": True,
        "run": None, **NEW,
    }  # fmt: skip
    assert callers.analyst("GET", "/hooks").json() == {"hooks": [made]}
    assert callers.analyst("GET", f"/hooks/{pk}").json() == {"hooks": [made]}
    changed = callers.analyst("PATCH", f"/hooks/{pk}", {"event": "export.complete", "active": False}).json()
    assert changed == {"hooks": [made | {"event": "export.complete", "active": False}]}
    renewed = callers.analyst("POST", f"/hooks/{pk}/secret").json()
    assert renewed["secret"] not in {secret, ""}
    assert callers.analyst("DELETE", f"/hooks/{pk}").status_code == 204
    assert callers.analyst("GET", f"/hooks/{pk}").status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        (NEW | {"target": "https://10.1.1.1/"}, "/target", "not public"),
        (NEW | {"target": "https://[::ffff:169.254.169.254]/"}, "/target", "not public"),
        (NEW | {"target": "http://example.org/"}, "/target", "https only"),
        (NEW | {"target": "https://user:word@example.org/"}, "/target", "without a user"),
        (NEW | {"event": "newdata.loaded"}, "/event", "catalogue"),
        (NEW | {"event": "run.started,run.died"}, "/event", "Name one or more"),
        (NEW | {"aoi": 1}, "/aoi", ""),
        ({"target": "https://example.org"}, "/event", ""),
    ],
)
def test_what_is_refused_says_where(callers: Callers, body: object, pointer: str, words: str) -> None:
    answer = callers.analyst("POST", "/hooks", body)
    assert answer.status_code == 400
    (fault,) = answer.json()["fields"]
    assert fault["pointer"] == pointer
    assert words in fault["error"]
    assert not Hook.objects.exists()


def test_a_test_is_accepted_and_listed(callers: Callers) -> None:
    pk = create(callers)["pk"]
    answer = callers.analyst("POST", f"/hooks/{pk}/test")
    assert answer.status_code == 202
    (delivery,) = answer.json()["deliveries"]
    assert (delivery["event"], delivery["state"], delivery["tries"]) == ("hook.test", "waiting", 0)
    assert callers.analyst("GET", f"/hooks/{pk}/deliveries").json() == {"deliveries": [delivery]}
    callers.analyst("PATCH", f"/hooks/{pk}", {"active": False})
    assert callers.analyst("POST", f"/hooks/{pk}/test").status_code == 409
    assert not Delivery.objects.exists()


def test_others_see_nothing(callers: Callers) -> None:
    pk = create(callers)["pk"]
    for caller in (callers.outsider, callers.administrator):
        assert caller("GET", "/hooks").json() == {"hooks": []}
        for method, path in (
            ("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/secret"),
            ("GET", "/deliveries"),
        ):  # fmt: skip
            body = {"active": False} if method == "PATCH" else None
            assert caller(method, f"/hooks/{pk}{path}", body).status_code == 404
    assert Hook.objects.get().active


def test_a_run_with_a_hook_of_its_own(callers: Callers, make_app: MakeApp, make_export: MakeExport) -> None:
    make_app()
    export = str(make_export(callers.developer.user).pk)
    hook = {"target": "https://example.org/one", "secret": "s" * 20, "event": "run.complete"}
    path, body = f"/apps/roads/runs/{uuid4()}", {"export": export, "hook": hook}
    first = callers.developer("PUT", path, body)
    assert first.status_code == 202, first.content
    assert callers.developer("PUT", path, body).status_code == 200
    assert callers.developer("PUT", path, {"export": export}).status_code == 409
    run = first.json()["runs"][0]["run_id"]
    (shown,) = callers.developer("GET", "/hooks").json()["hooks"]
    assert (shown["run"], shown["event"], shown["target"]) == (run, "run.complete", hook["target"])
    callers.developer("POST", f"/runs/{run}/cancel")
    (told,) = callers.developer("GET", f"/hooks/{shown['pk']}/deliveries").json()["deliveries"]
    assert told["event"] == "run.complete"


@pytest.mark.parametrize(
    ("hook", "pointer"),
    [
        ({"target": "https://192.168.0.1/", "secret": "s" * 20}, "/hook/target"),
        ({"target": "https://example.org/", "secret": "s"}, "/hook/secret"),
        ({"target": "https://example.org/", "secret": "s" * 20, "event": "export.complete"}, "/hook/event"),
    ],
)
def test_a_run_whose_hook_is_refused_is_not_made(
    callers: Callers, make_app: MakeApp, make_export: MakeExport, hook: object, pointer: str
) -> None:
    make_app()
    export = make_export(callers.developer.user)
    answer = callers.developer("POST", "/apps/roads/runs", {"export": export.pk, "hook": hook})
    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json()["fields"]] == [pointer]
    assert callers.developer("GET", "/runs").json() == {"runs": []}
