"""`/apps/{app_id}/releases`: the images that were pushed for an App."""

from django.http import HttpRequest
from ninja import Router

from gridapps.api.native.answers import reads
from gridapps.api.native.apps import visible
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.openapi import AppId
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.shapes import Release, ReleasesAnswer
from gridapps.registry import models, queries

router = Router(tags=["apps"], auth=with_scope("apps:read"))


@router.get(
    "/apps/{slug:app_id}/releases",
    response=reads(404, ok=ReleasesAnswer),
    operation_id="list_releases",
    exclude_unset=True,
)
def index(request: HttpRequest, app_id: AppId, limit: Limit = 100, after: After = None) -> ReleasesAnswer:
    """The releases of an App, newest first, refused ones as well: for its owner and administrators."""
    user = user_of(request)
    rows = queries.releases_visible_to(user, visible(user, app_id))
    found, following = page(request, rows, ("-pushed_at", "-pk"), limit=limit, after=after)
    return ReleasesAnswer(releases=[shown(release) for release in found], **following)


def shown(release: models.Release) -> Release:
    """The release as its owner and administrators see it."""
    return Release(
        digest=release.digest,
        tags=[tag.name for tag in release.tags.all()],
        pushed_at=release.pushed_at,
        size=release.size,
        layers=release.layers,
        entrypoint=release.entrypoint,
        command=release.command,
        state=release.state,
        reasons=release.reasons,
        blocked=release.blocked_reason or None,
    )
