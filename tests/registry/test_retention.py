"""Which images are given up, and what becomes of their releases."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from gridapps.access.models import AccessTag
from gridapps.audit.models import Entry
from gridapps.exports.models import Export
from gridapps.housekeeping import image_retention as retention
from gridapps.pki.tokens import Registry
from gridapps.registry import operations, queries, sharing
from gridapps.registry.errors import NotAllowed, NothingToRun, NotShareable, ReleaseNotFound
from gridapps.registry.models import App, Release, Share
from gridapps.runs import queries as runs
from gridapps.runs.models import Run
from gridapps.runs.states import State
from tests.fixtures.cast import Cast
from tests.registry.built import Image, digest
from tests.registry.conftest import Developer

pytestmark = pytest.mark.django_db


@pytest.fixture
def app(cast: Cast) -> App:
    return operations.create_app(by=cast.developer, app_id="roads", title="Roads")


@pytest.fixture
def policy(set_limits: Callable[..., None]) -> None:
    """Two of each App, and the rest for 30 days."""
    set_limits(keep_releases=2, keep_unshared=30)


def release(app: App, number: int, *, days: float) -> Release:
    return Release.objects.create(
        app=app, digest=f"sha256:{number:064x}", media_type="x", state="valid", size=5, layers=1,
        pushed_at=timezone.now() - timedelta(days=days),
    )  # fmt: skip


def run(of: Release, cast: Cast, *, state: State = State.SUCCESS, days: float = 100) -> Run:
    export = Export.objects.create(owner=cast.developer, name="city")
    ended = timezone.now() if state not in (State.QUEUED, State.RUNNING) else None
    made = Run.objects.create(
        owner=cast.developer, release=of, export=export, arguments={}, cpus=1, memory=1, disk=1, time=1,
        state=state, ended_at=ended,
    )  # fmt: skip
    Run.objects.filter(pk=made.pk).update(created_at=timezone.now() - timedelta(days=days))
    return made


def given_up() -> set[Release]:
    would = set(retention.plan())
    assert not Release.objects.filter(state="removed", pk__in=[each.pk for each in would]).exists()
    assert set(retention.retire()) == would
    assert retention.retire() == []
    return would


@pytest.mark.usefixtures("policy")
def test_what_the_policy_keeps(app: App, cast: Cast) -> None:
    old = [release(app, number, days=100 - number) for number in range(9)]
    release(app, 90, days=2)
    release(app, 91, days=1)
    recent = release(app, 92, days=29)
    run(old[0], cast, state=State.QUEUED)
    run(old[1], cast, state=State.RUNNING)
    run(old[2], cast, days=29)
    run(old[3], cast, days=31)
    tag = AccessTag.objects.create(name="city")
    for number, state in ((4, "copying"), (5, "active"), (6, "revoked"), (7, "failed")):
        share(old[number], tag, state)
    app.tags.create(name="v1", release=old[8], moved_at=timezone.now())
    assert given_up() == {old[3], old[6], old[7], old[8]}
    assert not app.tags.exists(), "a tag keeps nothing"
    recent.refresh_from_db()
    assert (recent.state, recent.removed_at) == ("valid", None)
    old[8].refresh_from_db()
    assert old[8].state == "removed"
    today = f"{timezone.now():%Y-%m-%d}"
    assert old[8].reasons == [
        f"The image was removed by the retention policy on {today}; push it again to run or share it."
    ]
    entry = Entry.objects.get(event="release.removed", subject=f"release:{old[8]}")
    assert (entry.actor, entry.details) == ("instance", {"reason": old[8].reasons[0]})


def share(of: Release, tag: AccessTag, state: str) -> None:
    snapshot: dict[str, Any] = {name: getattr(of.app, name) for name in sharing.SNAPSHOT}
    now = timezone.now()
    Share.objects.create(
        app=of.app, release=of, access_tag=tag, state=state, reason="Gone." if state == "failed" else "",
        activated_at=now if state == "active" else None,
        ended_at=now if state in ("revoked", "failed") else None, **snapshot,
    )  # fmt: skip


def test_without_a_policy_everything_stays(app: App) -> None:
    for number in range(20):
        release(app, number, days=1000)
    assert given_up() == set()


def test_images_of_a_deleted_app_go(app: App, cast: Cast) -> None:
    found = [release(app, number, days=0) for number in range(4)]
    run(found[0], cast, state=State.QUEUED, days=0)
    run(found[1], cast, days=0)
    share(found[2], AccessTag.objects.create(name="city"), "active")
    assert given_up() == set()
    operations.delete_app(by=cast.developer, app_id=app.app_id)
    assert given_up() == {found[1], found[3]}
    found[1].refresh_from_db()
    assert "after its App was deleted" in found[1].reasons[0]
    assert queries.source_for(cast.developer, found[0]) is Registry.DEVELOPER
    with pytest.raises(NotAllowed, match="after its App was deleted"):
        queries.source_for(cast.developer, found[1])


@pytest.mark.usefixtures("policy")
def test_what_comes_to_be_needed_in_the_last_moment_stays(
    app: App, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = release(app, 0, days=100)
    for number in (1, 2):
        release(app, number, days=50 - number)
    asked = 0

    def used(since: datetime) -> Any:
        nonlocal asked
        asked += 1
        if asked == 2:  # under the locks
            run(old, cast, state=State.QUEUED)
        return runs.releases_used(since)

    monkeypatch.setattr(retention, "releases_used", used)
    assert retention.retire() == []
    old.refresh_from_db()
    assert old.state == "valid"


@pytest.mark.usefixtures("policy")
def test_what_was_removed_neither_runs_nor_is_shared(app: App, cast: Cast) -> None:
    old = release(app, 0, days=100)
    for number in (1, 2):
        release(app, number, days=50 - number)
    app.tags.create(name="v1", release=old, moved_at=timezone.now())
    given_up()
    old.refresh_from_db()
    with pytest.raises(NotAllowed, match=r"removed by the retention policy on 20..-..-..; push it again"):
        queries.choose_release(cast.developer, "roads", old.digest)
    with pytest.raises(ReleaseNotFound):
        queries.choose_release(cast.developer, "roads", "v1")
    with pytest.raises(NotAllowed, match="push it again"):
        queries.source_for(cast.developer, old)
    AccessTag.objects.create(name="city")
    with pytest.raises(NotShareable, match="The release was removed: The image was removed by the retention"):
        sharing.share(by=cast.administrator, app_id="roads", release=old.digest, access_tag="city")
    assert queries.choose_release(cast.developer, "roads", None).release.digest == f"sha256:{2:064x}"
    app.releases.exclude(pk=old.pk).delete()
    with pytest.raises(NothingToRun):
        queries.choose_release(cast.developer, "roads", None)


@pytest.mark.usefixtures("real_registry")
def test_pushing_it_again_brings_it_back(developer: Developer, set_limits: Callable[..., None]) -> None:
    image = Image()
    developer.upload(*image.blobs)
    assert developer.push(image.manifest).status_code == 201
    developer.app.releases.update(state="removed", removed_at=timezone.now(), reasons=["Old."])
    set_limits(max_image=1)
    assert developer.push(image.manifest).status_code == 400
    assert developer.app.releases.get().state == "removed", "runs name it: it does not become a refused one"
    set_limits(max_image=10**6)
    assert developer.push(image.manifest).status_code == 201
    found = developer.app.releases.get()
    assert (found.state, found.removed_at, found.reasons) == ("valid", None, [])
    assert (
        queries.choose_release(developer.app.owner, developer.name, digest(image.manifest)).release == found
    )


def test_a_removed_release_says_when_and_why(app: App) -> None:
    made = release(app, 0, days=0)
    for wrong in (
        {"state": "removed", "reasons": ["Old."]},
        {"state": "removed", "removed_at": timezone.now()},
        {"removed_at": timezone.now()},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Release.objects.filter(pk=made.pk).update(**wrong)
