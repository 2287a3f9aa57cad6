"""Rows for runs, without their files and images."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from gridapps.access.models import AccessTag, User
from gridapps.exports.models import Export, ExportFile
from gridapps.registry.models import App, Release, Share
from gridapps.runs.models import Run, Task
from tests.fixtures.cast import Cast

MakeRun = Callable[..., Run]


@pytest.fixture
def release(cast: Cast) -> Release:
    app = App.objects.create(
        app_id="buildings", owner=cast.developer, title="Buildings", arguments={"type": "object"},
        cpus=1, memory=2**26, disk=2**26, time=60,
    )  # fmt: skip
    return Release.objects.create(
        app=app, digest="sha256:" + "0" * 64, media_type="m", state="valid", size=1, layers=1,
        pushed_at=timezone.now(),
    )  # fmt: skip


@pytest.fixture
def shared_with(release: Release) -> AccessTag:
    """The tag with which the release is shared."""
    tag = AccessTag.objects.create(name="city")
    Share.objects.create(
        app=release.app, release=release, access_tag=tag, state="active", activated_at=timezone.now(),
        title="Buildings", arguments={"type": "object"}, cpus=1, memory=2**26, disk=2**26, time=60,
    )  # fmt: skip
    return tag


@pytest.fixture
def make_run(release: Release, shared_with: AccessTag) -> MakeRun:
    """Make a run with one task per number of points; `age` is in seconds."""

    def make(*, owner: str = "analyst", points: tuple[int, ...] = (100,), age: float = 0) -> Run:
        user, _ = User.objects.get_or_create(username=owner)
        shared_with.holders.add(user)
        export = Export.objects.create(owner=user, name="city")
        run = Run.objects.create(
            owner=user, release=release, export=export, arguments={}, cpus=1, memory=1, disk=10**6, time=60
        )
        for index, count in enumerate(points):
            file = ExportFile.objects.create(
                export=export, name=f"{index}.laz", path=f"{index}", size=1, sha256="", points=count,
                las_version="1.4", point_format=6, bounds=[], footprint=b"",
            )  # fmt: skip
            Task.objects.create(
                run=run, owner=user, index=index, exportfile=file,
                queued_at=timezone.now() - timedelta(seconds=age),
            )  # fmt: skip
        return run

    return make
