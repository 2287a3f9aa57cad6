"""`/apps/{app_id}/releases`: the pushed images of an App."""

import re

from django.http import HttpRequest, HttpResponse
from ninja import Router

from gridapps.api.native import attachments
from gridapps.api.native.answers import reads
from gridapps.api.native.apps import visible
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import AppId, AttachmentKey, DigestKey, content
from gridapps.api.native.downloads import BINARY, as_file
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.parsing import not_found
from gridapps.api.native.shapes import Release, ReleasesAnswer
from gridapps.pushes import attaching
from gridapps.registry import kept_attachments, models, queries

router = Router(tags=["apps"], auth=with_scope("apps:read"))


@router.get(
    "/apps/{slug:app_id}/releases",
    response=reads(404, ok=ReleasesAnswer),
    operation_id="list_releases",
    exclude_unset=True,
)
def index(request: HttpRequest, app_id: AppId, limit: Limit = 100, after: After = None) -> ReleasesAnswer:
    """The releases of an App, newest first, including refused ones. For its owner and administrators."""
    user = user_of(request)
    rows = queries.releases_visible_to(user, visible(user, app_id))
    found, following = page(request, rows, ("-pushed_at", "-pk"), limit=limit, after=after)
    return ReleasesAnswer(releases=[shown(release) for release in found], **following)


@router.get(
    "/apps/{slug:app_id}/releases/{digest}/attachments/{attachment}",
    response=reads(404, ok=None),
    operation_id="download_attachment",
    openapi_extra=content(200, **{"application/octet-stream": BINARY}),
)
def download(
    request: HttpRequest, app_id: AppId, digest: DigestKey, attachment: AttachmentKey
) -> HttpResponse:
    """The bytes of an attachment of a release.

    Holders of an access tag get the attachments kept with their share; owner and administrators get all.
    """
    user = user_of(request)
    app = visible(user, app_id)
    if not all(re.fullmatch(r"sha256:[0-9a-f]{64}", key) for key in (digest, attachment)):
        raise not_found()
    found, source = queries.attachment(user, app, digest, attachment)
    data = attaching.read_attachment(app, source, found)
    if data is None:
        raise not_found()
    answer = HttpResponse(data, content_type="application/octet-stream")
    return as_file(answer, f"{app_id}-{found['kind']}-{attachment[7:19]}")


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
        remarks=release.remarks,
        attachments=[attachments.shown(kept_attachments.entry(row)) for row in release.attachments.all()],
        removed_at=release.removed_at,
        blocked=release.blocked_reason or None,
        blocked_at=release.blocked_at,
    )
