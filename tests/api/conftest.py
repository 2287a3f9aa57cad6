"""The cast of the tests, each with a token, calling the API in the test process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from gridapps.access import operations as access
from gridapps.access.models import User
from gridapps.exports.models import Export, ExportFile
from gridapps.registry import operations as registry
from gridapps.registry.models import App, Release, Tag
from tests.fixtures.cast import Cast

DIGEST = "sha256:" + "1" * 64


@dataclass
class Caller:
    """One member of the cast."""

    user: User
    token: str

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Call `/api/v3` + path; bodies that are not bytes are sent as JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return Client(raise_request_exception=False).generic(
            method,
            f"/api/v3{path}",
            data,
            headers.pop("content_type", "application/json"),
            secure=True,
            headers={"Host": settings.GRIDAPPS.host, "Authorization": f"Bearer {self.token}", **headers},
        )


@dataclass
class Callers:
    developer: Caller
    analyst: Caller
    administrator: Caller
    outsider: Caller


def caller(user: User, *scopes: str) -> Caller:
    """A user with a token of these scopes."""
    token = access.issue_token(by=None, user=user, lifetime=timedelta(hours=1), scopes=scopes)
    return Caller(user, token)


@pytest.fixture
def callers(cast: Cast) -> Callers:
    """The cast, each with a token."""
    users = (cast.developer, cast.analyst, cast.administrator, cast.outsider)
    return Callers(*(caller(user, "api", *(["admin"] if user.is_superuser else [])) for user in users))


MakeApp = Callable[..., App]
MakeExport = Callable[..., Export]


@pytest.fixture
def make_app(cast: Cast) -> MakeApp:
    """Make an App of the developer, with a valid release that the tag v1 points at."""

    def make(app_id: str = "roads", *, released: bool = True, **other: Any) -> App:
        app = registry.create_app(by=cast.developer, app_id=app_id, title="Roads", **other)
        if released:
            release = Release.objects.create(
                app=app, digest=DIGEST, media_type="m", state="valid", size=1, layers=1,
                pushed_at=timezone.now(),
            )  # fmt: skip
            Tag.objects.create(app=app, name="v1", release=release, moved_at=timezone.now())
        return app

    return make


@pytest.fixture
def make_export(db: None) -> MakeExport:
    """Make an export of files that are not on disk."""
    from shapely import Point

    def make(owner: User, *, files: int = 2, **other: Any) -> Export:
        export = Export.objects.create(owner=owner, name="city", **other)
        for index in range(files):
            ExportFile.objects.create(
                export=export, name=f"{index}.laz", path=f"{export.pk}/{index}.laz", size=1, sha256="0" * 64,
                points=10, las_version="1.4", point_format=6, bounds=[0, 0, 0, 1, 1, 1],
                footprint=Point(0, 0).buffer(1).wkb,
            )  # fmt: skip
        return export

    return make
