"""The calls about shares: what holders of the tag see, and that other users learn nothing."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from gridapps.access import operations as access
from gridapps.access.models import AccessTag, User
from gridapps.registry import operations
from gridapps.registry.models import App, Release, Share
from tests.fixtures.cast import Cast

DIGEST = "sha256:" + "1" * 64
NEWER = "sha256:" + "2" * 64


def browser(user: User) -> Client:
    client = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
    client.force_login(user)
    return client


def ask(user: User, method: str, path: str, body: Any = None) -> Any:
    return browser(user).generic(
        method, f"/api/v3{path}", "" if body is None else body, content_type="application/json"
    )


def post(user: User, path: str, **body: str) -> Any:
    return browser(user).post(f"/api/v3{path}", body, content_type="application/json")


def put(user: User, path: str, **body: str) -> Any:
    return browser(user).put(f"/api/v3{path}", body, content_type="application/json")


@pytest.fixture
def app(cast: Cast) -> App:
    """An App with a release, shared with the analyst's tag, and changed since."""
    app = operations.create_app(by=cast.developer, app_id="roads", title="Roads")
    for digest in (DIGEST, NEWER):
        Release.objects.create(
            app=app, digest=digest, media_type="m", state="valid", size=1, layers=1, pushed_at=timezone.now()
        )
    access.create_tag(by=None, name="city")
    access.give_tag(by=None, name="city", users=[cast.analyst])
    made = post(cast.administrator, "/apps/roads/shares", access_tag="city", release=DIGEST)
    assert made.status_code == 202, made.content
    assert (
        post(cast.administrator, "/apps/roads/shares", access_tag="city", release=DIGEST).status_code == 200
    )
    Share.objects.update(state="active", copied=1, activated_at=timezone.now())
    return operations.update_app(by=cast.developer, app_id="roads", changes={"title": "Secret plans"})


def test_a_holder_sees_the_app_as_it_was_shared(cast: Cast, app: App) -> None:
    for path in ("/apps", "/apps/roads"):
        (shown,) = ask(cast.analyst, "GET", path).json()["apps"]
        assert (shown["title"], shown["release"], shown["runnable"]) == ("Roads", DIGEST, True)
    etag = ask(cast.analyst, "GET", "/apps/roads")["ETag"]
    operations.update_app(by=cast.developer, app_id="roads", changes={"title": "Even newer"})
    assert ask(cast.analyst, "GET", "/apps/roads")["ETag"] == etag
    assert ask(cast.developer, "GET", "/apps/roads").json()["apps"][0]["release"] == NEWER
    for path in (
        "/apps/roads/releases",
        "/apps/roads/shares",
        f"/apps/roads/shares/{Share.objects.get().pk}",
    ):
        assert ask(cast.analyst, "GET", path).status_code == 404
    for path in ("/", "/apps/roads"):
        page = browser(cast.analyst).get(path).content.decode()
        assert "Roads" in page
        assert "Even newer" not in page
        assert NEWER[:19] not in page


def test_owner_and_administrators_see_the_shares(cast: Cast, app: App) -> None:
    for user in (cast.developer, cast.administrator):
        (share,) = ask(user, "GET", "/apps/roads/shares").json()["shares"]
        assert (share["state"], share["access_tag"], share["copied"], share["title"]) == (
            "active", "city", 1, "Roads",
        )  # fmt: skip
        page = browser(user).get("/apps/roads").content.decode()
        assert "What sharing the newest release would change" in page
        assert "Title: &#x27;Roads&#x27; becomes &#x27;Secret plans&#x27;" in page


@pytest.mark.parametrize(
    "spelling", ["roads", "Roads", "ROADS", "röads", "ro\u0430ds", "roads%00", "\uff52oads", "%72oads"]
)
def test_an_outsider_learns_nothing(cast: Cast, app: App, spelling: str) -> None:
    share = Share.objects.get().pk
    calls: list[tuple[str, str, str | None]] = [
        ("GET", "/apps/{}", None),
        ("GET", "/apps/{}/releases", None),
        ("GET", "/apps/{}/shares", None),
        ("GET", f"/apps/{{}}/shares/{share}", None),
        ("POST", "/apps/{}/shares", f'{{"access_tag": "city", "release": "{DIGEST}"}}'),
        ("DELETE", f"/apps/{{}}/shares/{share}", None),
        ("PUT", "/apps/{}/block", '{"reason": "x"}'),
        ("DELETE", "/apps/{}/block", None),
        ("PUT", f"/apps/{{}}/releases/{DIGEST}/block", '{"reason": "x"}'),
        ("DELETE", f"/apps/{{}}/releases/{DIGEST}/block", None),
        ("POST", "/apps/{}/runs", '{"export": "1"}'),
        ("PATCH", "/apps/{}", '{"title": "x"}'),
        ("DELETE", "/apps/{}", None),
    ]
    slug = spelling.isascii() and "%00" not in spelling
    for method, path, body in calls:
        there = ask(cast.outsider, method, path.format(spelling), body)
        absent = ask(cast.outsider, method, path.format("nothing"), body)
        assert there.status_code >= 400
        if slug:
            told = there.content.decode().replace("%72oads", "nothing").replace(spelling, "nothing")
            assert (there.status_code, told.replace("roads", "nothing")) == (
                absent.status_code, absent.content.decode(),
            ), (method, path)  # fmt: skip
        else:
            assert there.status_code == 404
    assert ask(cast.outsider, "GET", "/apps").json() == {"apps": []}
    assert Share.objects.get().state == "active"
    assert App.objects.get().blocked_at is None


def test_a_token_without_the_scope_administers_nothing(cast: Cast, app: App) -> None:
    token = access.issue_token(by=None, user=cast.administrator, lifetime=timedelta(days=1))
    answer = Client().put(
        "/api/v3/apps/roads/block", {"reason": "x"}, content_type="application/json", secure=True,
        headers={"Authorization": f"Bearer {token}", "Host": settings.GRIDAPPS.host},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient-scope")


def test_a_block_over_the_api(cast: Cast, app: App) -> None:
    root = cast.administrator
    blocked = put(root, f"/apps/roads/releases/{DIGEST}/block", reason="leaks", running="stop")
    assert blocked.json()["releases"][0]["blocked"] == "leaks"
    shown = ask(cast.analyst, "GET", "/apps/roads").json()["apps"][0]
    assert (shown["runnable"], shown["blocked"]) == (False, "leaks")
    assert shown["blocked_at"].endswith("Z")
    assert ask(root, "DELETE", f"/apps/roads/releases/{DIGEST}/block").status_code == 204
    assert put(root, "/apps/roads/block", reason="all of it").json()["apps"][0]["blocked"] == "all of it"
    assert ask(cast.developer, "GET", "/apps/roads").json()["apps"][0]["runnable"] is False
    assert b"all of it" in browser(cast.analyst).get("/apps/roads").content
    assert ask(root, "DELETE", "/apps/roads/block").status_code == 204
    assert put(root, "/apps/roads/block", reason=" ").status_code == 400
    assert put(root, f"/apps/roads/releases/sha256:{'9' * 64}/block", reason="x").status_code == 404


def test_revoking_over_the_api(cast: Cast, app: App) -> None:
    path = f"/apps/roads/shares/{Share.objects.get().pk}"
    assert [ask(cast.administrator, "DELETE", path).status_code for _ in range(2)] == [204, 204]
    assert ask(cast.analyst, "GET", "/apps/roads").status_code == 404
    assert ask(cast.administrator, "GET", path).json()["shares"][0]["state"] == "revoked"
    assert ask(cast.administrator, "DELETE", "/apps/roads/shares/999").status_code == 404


def test_sharing_on_the_page(cast: Cast, app: App) -> None:
    AccessTag.objects.create(name="other")
    form = {"release": NEWER, "access_tag": "other"}
    answer = browser(cast.developer).post("/apps/roads/share", form, follow=True)
    assert b"Only administrators" in answer.content
    assert browser(cast.outsider).post("/apps/roads/share", form).status_code == 404
    assert Share.objects.count() == 1
    assert b"copying" in browser(cast.administrator).post("/apps/roads/share", form, follow=True).content


@pytest.mark.parametrize(
    "arguments", ["[", "[]", "NaN", '{"a": NaN}', '{"a": "\\u0000"}', '{"a": "\\ud800"}']
)
def test_arguments_on_the_page_that_are_none(cast: Cast, app: App, arguments: str) -> None:
    form = {"export": "1", "arguments": arguments}
    answer = browser(cast.analyst).post("/apps/roads/run", form, follow=True)
    assert b"not a JSON object" in answer.content
    other = browser(cast.analyst).post("/apps/roads/run", {"export": "x"}, follow=True)
    assert b"You have no export" in other.content


def test_the_administration_shows_shares_and_retires_users(cast: Cast, app: App) -> None:
    root = browser(cast.administrator)
    for page in (
        "registry/share/",
        "access/user/",
        f"access/user/{cast.analyst.pk}/change/",
        "registry/app/",
    ):
        assert root.get(f"/admin/{page}").status_code == 200
    chosen = {"action": "retire", "_selected_action": [cast.developer.pk, cast.administrator.pk]}
    root.post("/admin/access/user/", chosen)  # asks first
    cast.developer.refresh_from_db()
    assert cast.developer.is_active
    root.post("/admin/access/user/", {**chosen, "confirmed": "yes"})
    cast.developer.refresh_from_db()
    cast.administrator.refresh_from_db()
    assert (cast.developer.is_active, cast.administrator.is_active) == (False, True)
    assert ask(cast.analyst, "GET", "/apps/roads").json()["apps"][0]["runnable"]
    revoked = {"action": "revoke", "_selected_action": [Share.objects.get().pk], "confirmed": "yes"}
    root.post("/admin/registry/share/", revoked)
    assert Share.objects.get().state == "revoked"
