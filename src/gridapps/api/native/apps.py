"""`/apps`: the Apps that a user may run, and the user's own."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Router, Status

from gridapps.access.models import User
from gridapps.api.native import attachments
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import AppId, etag, if_match
from gridapps.api.native.paging import After, Flag, Limit, page
from gridapps.api.native.parsing import not_found
from gridapps.api.native.shapes import App, AppChanges, AppsAnswer, NewApp, Resources
from gridapps.registry import kept_attachments, models, operations, queries

router = Router(tags=["apps"], auth=with_scope("apps:read", "apps:write"))


@router.get("/apps", response=reads(ok=AppsAnswer), operation_id="list_apps", exclude_unset=True)
def index(request: HttpRequest, mine: Flag = False, limit: Limit = 100, after: After = None) -> AppsAnswer:
    """The Apps that you may run or own; `mine`: only those that you own. Administrators see all."""
    user = user_of(request)
    apps = queries.owned_by(user) if mine else queries.visible_to(user)
    found, following = page(request, apps, ("app_id",), limit=limit, after=after)
    return AppsAnswer(apps=shown(user, found), **following)


@router.post(
    "/apps",
    response=writes(409, body=True, status_201=AppsAnswer),
    operation_id="create_app",
    exclude_unset=True,
    openapi_extra=etag(201),
)
def create(request: HttpRequest, response: HttpResponse, body: NewApp) -> Status[AppsAnswer]:
    """Create an App. Only for verified developers."""
    user = user_of(request)
    app = operations.create_app(
        by=user,
        app_id=body.id,
        title=body.title,
        description=body.description,
        arguments=body.arguments,
        resources=body.resources.named(),
    )
    return Status(201, _single(user, app, response))


@router.get(
    "/apps/{slug:app_id}",
    response=reads(404, ok=AppsAnswer),
    operation_id="show_app",
    exclude_unset=True,
    openapi_extra=etag(200),
)
def show(request: HttpRequest, response: HttpResponse, app_id: AppId) -> AppsAnswer:
    """One App."""
    user = user_of(request)
    return _single(user, visible(user, app_id), response)


@router.patch(
    "/apps/{slug:app_id}",
    response=writes(404, 412, body=True, status_200=AppsAnswer),
    operation_id="change_app",
    exclude_unset=True,
    openapi_extra=etag(200) | if_match(),
)
def change(request: HttpRequest, response: HttpResponse, app_id: AppId, body: AppChanges) -> AppsAnswer:
    """Change your own App. With `If-Match`, only if it has not changed since."""
    user = user_of(request)
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "resources" in changes:
        changes["resources"] = body.resources.named()
    expected = request.headers.get("If-Match")
    app = operations.update_app(
        by=user,
        app_id=app_id,
        expected=expected.strip('"') if expected not in {None, "*"} else None,
        changes=changes,
    )
    return _single(user, app, response)


@router.delete(
    "/apps/{slug:app_id}", response=writes(404, body=False, status_204=None), operation_id="delete_app"
)
def delete(request: HttpRequest, app_id: AppId) -> Status[None]:
    """Delete your own App. Its id cannot be used again."""
    operations.delete_app(by=user_of(request), app_id=app_id)
    return Status(204, None)


def visible(user: User, app_id: str) -> models.App:
    """The App, if the user may see it. Raises ApiError (404)."""
    app = queries.visible_to(user).filter(app_id=app_id).first()
    if app is None:
        raise not_found()
    return app


def shown(user: User, apps: Iterable[models.App]) -> list[App]:
    """The Apps as the API shows them to this user: a shared App as it was when it was shared."""
    apps = list(apps)
    releases, grants = queries.newest_releases(apps), queries.grants(user, apps)
    attached = queries.attached({pk: release for pk, release in releases.items() if pk not in grants})
    runnable = set(
        queries.runnable_by(user).filter(pk__in=[app.pk for app in apps]).values_list("pk", flat=True)
    )
    return [
        _granted(app, grants[app.pk], runnable=app.pk in runnable)
        if app.pk in grants
        else _whole(app, releases.get(app.pk), attached.get(app.pk, []), runnable=app.pk in runnable)
        for app in apps
    ]


def _whole(app: models.App, release: str | None, attached: list[models.Attachment], *, runnable: bool) -> App:
    return App(
        release=release,
        runnable=runnable and release is not None,
        created_at=app.created_at,
        updated_at=app.updated_at,
        attachments=[attachments.shown(kept_attachments.entry(row)) for row in attached],
        blocked=app.blocked_reason or None,
        blocked_at=app.blocked_at,
        **_described(app, app),
    )


def _granted(app: models.App, share: models.Share, *, runnable: bool) -> App:
    assert share.activated_at is not None, "a share that grants something is active"
    return App(
        release=share.release.digest,
        runnable=runnable,
        created_at=share.activated_at,
        updated_at=share.activated_at,
        attachments=list(map(attachments.shown, share.attachments)),
        blocked=app.blocked_reason or share.release.blocked_reason or None,
        blocked_at=app.blocked_at or share.release.blocked_at,
        **_described(app, share),
    )


def _described(app: models.App, terms: models.App | models.Share) -> dict[str, Any]:
    return {
        "id": app.app_id,
        "title": terms.title,
        "description": terms.description,
        "owner": app.owner.username,
        "arguments": terms.arguments,
        "resources": Resources(cpus=terms.cpus, memory=terms.memory, disk=terms.disk, time=terms.time),
        "repository": f"{settings.GRIDAPPS.authority}/{app.app_id}",
    }


def _single(user: User, app: models.App, response: HttpResponse) -> AppsAnswer:
    share = queries.grants(user, [app]).get(app.pk)
    response["ETag"] = f'"share-{share.pk}"' if share else f'"{operations.version(app)}"'
    return AppsAnswer(apps=shown(user, [app]))
