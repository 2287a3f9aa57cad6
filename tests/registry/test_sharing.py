"""Who may share and block, and what owner, holders, outsiders and administrators then see and may run."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from gridapps.access import operations as access
from gridapps.access.errors import InvalidTag, NotAnAdministrator, TagTaken
from gridapps.access.models import AccessTag, User
from gridapps.pki.tokens import Registry
from gridapps.registry import operations, queries, sharing
from gridapps.registry.errors import (
    AppNotFound,
    InvalidShare,
    NotAllowed,
    NotShareable,
    ReleaseNotFound,
    ShareNotFound,
)
from gridapps.registry.models import App, Release, Share
from tests.fixtures.cast import Cast


@pytest.fixture
def app(cast: Cast) -> App:
    return operations.create_app(by=cast.developer, app_id="roads", title="Roads", description="As shared")


@pytest.fixture
def tag(cast: Cast) -> AccessTag:
    """The tag that the analyst holds."""
    made = access.create_tag(by=None, name="city")
    access.give_tag(by=None, name="city", users=[cast.analyst])
    return made


def new_release(app: App, number: int = 1, **changes: Any) -> Release:
    values = {"media_type": "m", "state": "valid", "size": 1, "layers": 1, "pushed_at": timezone.now()}
    return Release.objects.create(app=app, digest=f"sha256:{number:064x}", **{**values, **changes})


def shared(cast: Cast, release: Release, tag: str = "city") -> Share:
    """A share whose copy is done."""
    made, _ = sharing.share(
        by=cast.administrator, app_id=release.app.app_id, release=release.digest, access_tag=tag
    )
    Share.objects.filter(pk=made.pk).update(state="active", activated_at=timezone.now(), copied=made.size)
    made.refresh_from_db()
    return made


def sees(user: User, app: App) -> tuple[bool, bool]:
    """Whether the user sees the App, and whether the user may run it."""
    return queries.visible_to(user).filter(pk=app.pk).exists(), queries.runnable_by(user).filter(
        pk=app.pk
    ).exists()


def test_a_holder_sees_and_runs_once_it_is_copied(cast: Cast, app: App, tag: AccessTag) -> None:
    release = new_release(app)
    sharing.share(by=cast.administrator, app_id="roads", release=release.digest, access_tag="city")
    assert sees(cast.analyst, app) == (False, False)
    assert sees(cast.administrator, app) == (True, False)
    shared(cast, release)
    assert sees(cast.analyst, app) == (True, True)
    assert sees(cast.outsider, app) == (False, False)
    assert queries.source_for(cast.analyst, release) is Registry.TRUSTED
    assert queries.source_for(cast.developer, release) is Registry.DEVELOPER
    for nobody in (cast.outsider, cast.administrator):
        with pytest.raises(NotAllowed):
            queries.source_for(nobody, release)
    with pytest.raises(AppNotFound, match=r"^There is no App 'roads' that you may run\.$"):
        queries.choose_release(cast.outsider, "roads", None)
    with pytest.raises(AppNotFound, match=r"^There is no App 'nothing' that you may run\.$"):
        queries.choose_release(cast.outsider, "nothing", None)


def test_a_holder_gets_what_was_shared_and_nothing_newer(cast: Cast, app: App, tag: AccessTag) -> None:
    first = new_release(app, 1)
    shared(cast, first)
    newer = new_release(app, 2)
    schema = {"type": "object", "properties": {"new": {"type": "string"}}}
    operations.update_app(by=cast.developer, app_id="roads", changes={"title": "Newer", "arguments": schema})
    chosen = queries.choose_release(cast.analyst, "roads", None)
    assert chosen.release == first
    assert (chosen.terms.title, chosen.terms.arguments) == ("Roads", {"type": "object"})
    assert queries.choose_release(cast.developer, "roads", None).release == newer
    assert queries.choose_release(cast.analyst, "roads", first.digest).release == first
    with pytest.raises(ReleaseNotFound) as unshared:
        queries.choose_release(cast.analyst, "roads", newer.digest)
    with pytest.raises(ReleaseNotFound) as absent:
        queries.choose_release(cast.analyst, "roads", "sha256:" + "f" * 64)
    assert str(unshared.value).replace(newer.digest, "") == str(absent.value).replace(
        "sha256:" + "f" * 64, ""
    )
    shared(cast, newer)
    again = queries.choose_release(cast.analyst, "roads", None)
    assert (again.release, again.terms.title) == (newer, "Newer")
    assert queries.choose_release(cast.analyst, "roads", first.digest).terms.title == "Roads"


def test_the_owner_cannot_take_it_back(cast: Cast, app: App, tag: AccessTag) -> None:
    release = new_release(app)
    shared(cast, release)
    operations.delete_app(by=cast.developer, app_id="roads")
    access.retire_user(user=cast.developer, by=cast.administrator)
    assert sees(cast.analyst, app) == (True, True)
    assert queries.source_for(cast.analyst, release) is Registry.TRUSTED
    assert sees(cast.developer, app) == (False, False)
    assert sees(cast.administrator, app) == (True, False), "who can still block it"


def test_the_owner_of_a_deleted_app_who_holds_the_tag_is_a_holder(
    cast: Cast, app: App, tag: AccessTag
) -> None:
    release = new_release(app)
    assert queries.source_for(cast.developer, release) is Registry.DEVELOPER
    operations.delete_app(by=cast.developer, app_id="roads")
    assert queries.source_for(cast.developer, release) is Registry.DEVELOPER, "a run in the queue"
    app.deleted_at = None
    app.save()
    shared(cast, release)
    access.give_tag(by=None, name="city", users=[cast.developer])
    operations.delete_app(by=cast.developer, app_id="roads")
    release.refresh_from_db()
    assert queries.source_for(cast.developer, Release.objects.get(pk=release.pk)) is Registry.TRUSTED
    with pytest.raises(AppNotFound):
        queries.releases_visible_to(cast.developer, App.objects.get(pk=app.pk))


def test_losing_the_tag_or_the_share_ends_it(cast: Cast, app: App, tag: AccessTag) -> None:
    release = new_release(app)
    share = shared(cast, release)
    access.take_tag(by=None, name="city", users=[cast.analyst])
    with pytest.raises(NotAllowed, match="no longer shared with an access tag of yours"):
        queries.source_for(cast.analyst, release)
    access.give_tag(by=None, name="city", users=[cast.analyst])
    assert queries.source_for(cast.analyst, release) is Registry.TRUSTED
    sharing.revoke(by=cast.administrator, app_id="roads", pk=share.pk)
    assert sees(cast.analyst, app) == (False, False)
    with pytest.raises(NotAllowed):
        queries.source_for(cast.analyst, release)
    sharing.revoke(by=cast.administrator, app_id="roads", pk=share.pk)
    share.refresh_from_db()
    assert (share.state, share.ended_by) == ("revoked", cast.administrator)


def test_a_block_is_for_everybody_and_says_why(cast: Cast, app: App, tag: AccessTag) -> None:
    first, second = new_release(app, 1), new_release(app, 2)
    shared(cast, first)
    shared(cast, second)
    sharing.block(by=cast.administrator, app_id="roads", release=second.digest, reason="writes nonsense")
    assert queries.choose_release(cast.analyst, "roads", None).release == first, (
        "the newest one that is not blocked"
    )
    assert queries.choose_release(cast.developer, "roads", None).release == first
    for user in (cast.analyst, cast.developer):
        with pytest.raises(NotAllowed, match="blocked this release: writes nonsense"):
            queries.choose_release(user, "roads", second.digest)
    sharing.block(by=cast.administrator, app_id="roads", reason="leaks")
    for user in (cast.analyst, cast.developer):
        assert sees(user, app) == (True, False)
        with pytest.raises(NotAllowed, match="blocked this App: leaks"):
            queries.choose_release(user, "roads", None)
        with pytest.raises(NotAllowed, match="blocked this App: leaks"):
            queries.source_for(user, Release.objects.get(pk=first.pk))
    with pytest.raises(AppNotFound):
        queries.choose_release(cast.outsider, "roads", None)
    sharing.unblock(by=cast.administrator, app_id="roads")
    assert sees(cast.analyst, app) == (True, True)


def test_who_is_not_active_runs_nothing(cast: Cast, app: App, tag: AccessTag) -> None:
    release = new_release(app)
    shared(cast, release)
    for user in (cast.analyst, cast.developer):
        user.is_active = False
        user.save()
        assert not queries.runnable_by(user).exists()
        with pytest.raises(NotAllowed, match="no longer active"):
            queries.source_for(user, release)


def test_what_cannot_be_shared(cast: Cast, app: App, tag: AccessTag) -> None:
    def attempt(release: str, access_tag: str = "city", app_id: str = "roads") -> None:
        sharing.share(by=cast.administrator, app_id=app_id, release=release, access_tag=access_tag)

    refused = new_release(app, 1, state="refused", reasons=["It has no ENTRYPOINT."])
    with pytest.raises(NotShareable, match="no ENTRYPOINT"):
        attempt(refused.digest)
    valid = new_release(app, 2)
    with pytest.raises(InvalidShare, match="no access tag"):
        attempt(valid.digest, "none")
    with pytest.raises(InvalidShare, match="no release"):
        attempt("v1")
    with pytest.raises(AppNotFound):
        attempt(valid.digest, app_id="none")
    sharing.block(by=cast.administrator, app_id="roads", release=valid.digest, reason="bad")
    with pytest.raises(NotShareable, match="release is blocked: bad"):
        attempt(valid.digest)
    sharing.unblock(by=cast.administrator, app_id="roads", release=valid.digest)
    sharing.block(by=cast.administrator, app_id="roads", reason="worse")
    with pytest.raises(NotShareable, match="App is blocked: worse"):
        attempt(valid.digest)
    sharing.unblock(by=cast.administrator, app_id="roads")
    operations.delete_app(by=cast.developer, app_id="roads")
    with pytest.raises(NotShareable, match="deleted"):
        attempt(valid.digest)
    assert not Share.objects.exists()


def test_the_same_share_again_is_the_same(cast: Cast, app: App, tag: AccessTag) -> None:
    release = new_release(app)
    first = shared(cast, release)
    same, new = sharing.share(
        by=cast.administrator, app_id="roads", release=release.digest, access_tag="city"
    )
    assert (same, new) == (first, False)
    sharing.revoke(by=cast.administrator, app_id="roads", pk=first.pk)
    other, new = sharing.share(
        by=cast.administrator, app_id="roads", release=release.digest, access_tag="city"
    )
    assert new
    assert other != first


@pytest.mark.parametrize("who", ["developer", "analyst", "outsider"])
def test_only_administrators_share_and_block(cast: Cast, app: App, tag: AccessTag, who: str) -> None:
    share, user = shared(cast, new_release(app)), getattr(cast, who)
    for app_id in ("roads", "none"):
        attempts: list[Any] = [
            lambda app_id=app_id: sharing.share(by=user, app_id=app_id, release="v1", access_tag="city"),
            lambda app_id=app_id: sharing.revoke(by=user, app_id=app_id, pk=share.pk),
            lambda app_id=app_id: sharing.block(by=user, app_id=app_id, reason="no"),
            lambda app_id=app_id: sharing.unblock(by=user, app_id=app_id),
            lambda: access.retire_user(user=cast.developer, by=user),
        ]
        for attempt in attempts:
            with pytest.raises(NotAnAdministrator):
                attempt()
    assert Share.objects.get().state == "active"


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "two\nlines"])
def test_reasons_that_are_none(cast: Cast, app: App, reason: str) -> None:
    with pytest.raises(InvalidShare):
        sharing.block(by=cast.administrator, app_id="roads", reason=reason)


def test_a_share_of_another_app_is_not_there(cast: Cast, app: App, tag: AccessTag) -> None:
    share = shared(cast, new_release(app))
    operations.create_app(by=cast.developer, app_id="rivers", title="Rivers")
    with pytest.raises(ShareNotFound):
        sharing.revoke(by=cast.administrator, app_id="rivers", pk=share.pk)


@pytest.mark.parametrize("name", ["City", "ci ty", "", "-city", "städte", "x" * 64, "city\n"])
def test_names_that_no_tag_can_have(cast: Cast, name: str) -> None:
    with pytest.raises(InvalidTag):
        access.create_tag(by=None, name=name)


def test_a_tag_has_its_name_alone(tag: AccessTag) -> None:
    with pytest.raises(TagTaken):
        access.create_tag(by=None, name="city")


@pytest.mark.parametrize(
    "changes",
    [
        {"copied": 0},
        {"activated_at": None},
        {"ended_at": timezone.now()},
        {"state": "revoked"},
        {"state": "failed", "ended_at": timezone.now(), "reason": ""},
    ],
)
def test_the_database_refuses_shares_that_cannot_be(
    cast: Cast, app: App, tag: AccessTag, changes: dict[str, Any]
) -> None:
    shared(cast, new_release(app))
    with pytest.raises(IntegrityError), transaction.atomic():
        Share.objects.update(**changes)


def test_the_database_refuses_a_second_open_share_and_a_block_without_reason(
    cast: Cast, app: App, tag: AccessTag
) -> None:
    share = shared(cast, new_release(app))
    share.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        share.save(force_insert=True)
    for blocked in (App, Release):
        with pytest.raises(IntegrityError), transaction.atomic():
            blocked.objects.update(blocked_at=timezone.now())


def test_a_retired_user_is_forgotten(cast: Cast, tag: AccessTag) -> None:
    token = access.issue_token(by=None, user=cast.analyst, lifetime=timedelta(days=1))
    access.retire_user(user=cast.analyst, by=cast.administrator)
    cast.analyst.refresh_from_db()
    assert (cast.analyst.username, cast.analyst.is_active) == (f"retired-{cast.analyst.pk}", False)
    assert not tag.holders.exists()
    asked = Client().get(
        "/api/v3/me", headers={"Authorization": f"Bearer {token}", "Host": "localhost"}, secure=True
    )
    assert asked.status_code == 401
