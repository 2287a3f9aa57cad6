"""`/apps/{app_id}/shares`, and blocks of Apps and releases."""

from django.http import HttpRequest
from ninja import Router, Status

from gridapps.access import permissions
from gridapps.api.native import attachments
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.apps import shown as shown_apps
from gridapps.api.native.apps import visible
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import AppId, DigestKey, Pk
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.parsing import not_found, primary_key
from gridapps.api.native.releases import shown as shown_release
from gridapps.api.native.shapes import (
    AppsAnswer,
    Block,
    NewShare,
    ReleasesAnswer,
    Resources,
    Share,
    SharesAnswer,
)
from gridapps.registry import models, queries, sharing
from gridapps.runs import operations as runs

router = Router(tags=["shares"], auth=with_scope("apps:read", "admin"))


@router.get(
    "/apps/{slug:app_id}/shares",
    response=reads(404, ok=SharesAnswer),
    operation_id="list_shares",
    exclude_unset=True,
)
def index(request: HttpRequest, app_id: AppId, limit: Limit = 100, after: After = None) -> SharesAnswer:
    """The shares of an App, newest first, including ended ones. For its owner and administrators."""
    user = user_of(request)
    rows = queries.shares_visible_to(user, visible(user, app_id))
    found, following = page(request, rows, ("-created_at", "-pk"), limit=limit, after=after)
    return SharesAnswer(shares=[_shown(share) for share in found], **following)


@router.post(
    "/apps/{slug:app_id}/shares",
    response=writes(404, 409, body=True, status_200=SharesAnswer, status_202=SharesAnswer),
    operation_id="share_app",
    exclude_unset=True,
)
def create(request: HttpRequest, app_id: AppId, body: NewShare) -> Status[SharesAnswer]:
    """Let the holders of an access tag run a release, once it is copied. Only for administrators.

    200 if there is such a share already.
    """
    share, new = sharing.share(
        by=user_of(request), app_id=app_id, release=body.release, access_tag=body.access_tag
    )
    return Status(202 if new else 200, SharesAnswer(shares=[_shown(share)]))


@router.get(
    "/apps/{slug:app_id}/shares/{pk}",
    response=reads(404, ok=SharesAnswer),
    operation_id="show_share",
    exclude_unset=True,
)
def show(request: HttpRequest, app_id: AppId, pk: Pk) -> SharesAnswer:
    """One share: how far its copy is, or why it failed."""
    user = user_of(request)
    share = queries.shares_visible_to(user, visible(user, app_id)).filter(pk=primary_key(pk)).first()
    if share is None:
        raise not_found()
    return SharesAnswer(shares=[_shown(share)])


@router.delete(
    "/apps/{slug:app_id}/shares/{pk}",
    response=writes(404, body=False, status_204=None),
    operation_id="revoke_share",
)
def revoke(request: HttpRequest, app_id: AppId, pk: Pk) -> Status[None]:
    """Revoke a share: queued tasks of its holders no longer start. Only for administrators."""
    user = user_of(request)
    permissions.require_administrator(user)
    sharing.revoke(by=user, app_id=app_id, pk=primary_key(pk))
    return Status(204, None)


@router.put(
    "/apps/{slug:app_id}/block",
    response=writes(404, body=True, status_200=AppsAnswer),
    operation_id="block_app",
    exclude_unset=True,
)
def block_app(request: HttpRequest, app_id: AppId, body: Block) -> AppsAnswer:
    """Block an App for all users, at once. Only for administrators."""
    user = user_of(request)
    app = runs.block(by=user, app_id=app_id, reason=body.reason, stop=body.running == "stop")
    assert isinstance(app, models.App), "no release was named"
    return AppsAnswer(apps=shown_apps(user, [app]))


@router.delete(
    "/apps/{slug:app_id}/block", response=writes(404, body=False, status_204=None), operation_id="unblock_app"
)
def unblock_app(request: HttpRequest, app_id: AppId) -> Status[None]:
    """Unblock an App. Only for administrators."""
    sharing.unblock(by=user_of(request), app_id=app_id)
    return Status(204, None)


@router.put(
    "/apps/{slug:app_id}/releases/{digest}/block",
    response=writes(404, body=True, status_200=ReleasesAnswer),
    operation_id="block_release",
    exclude_unset=True,
)
def block_release(request: HttpRequest, app_id: AppId, digest: DigestKey, body: Block) -> ReleasesAnswer:
    """Block a release for all users, at once. Only for administrators."""
    release = runs.block(
        by=user_of(request), app_id=app_id, release=digest, reason=body.reason, stop=body.running == "stop"
    )
    assert isinstance(release, models.Release), "a release was named"
    return ReleasesAnswer(releases=[shown_release(release)])


@router.delete(
    "/apps/{slug:app_id}/releases/{digest}/block",
    response=writes(404, body=False, status_204=None),
    operation_id="unblock_release",
)
def unblock_release(request: HttpRequest, app_id: AppId, digest: DigestKey) -> Status[None]:
    """Unblock a release. Only for administrators."""
    sharing.unblock(by=user_of(request), app_id=app_id, release=digest)
    return Status(204, None)


def _shown(share: models.Share) -> Share:
    return Share(
        pk=str(share.pk),
        app=share.app.app_id,
        release=share.release.digest,
        access_tag=share.access_tag.name,
        state=share.state,
        copied=share.copied,
        size=share.size,
        reason=share.reason,
        attachments=list(map(attachments.shown, share.attachments)),
        scanned_at=share.scanned_at,
        scan=share.scan,
        title=share.title,
        description=share.description,
        arguments=share.arguments,
        resources=Resources(cpus=share.cpus, memory=share.memory, disk=share.disk, time=share.time),
        created_at=share.created_at,
        created_by=share.created_by.username if share.created_by else None,
        activated_at=share.activated_at,
        ended_at=share.ended_at,
    )
