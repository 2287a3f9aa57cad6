"""The page of an App."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from gridapps.access import permissions
from gridapps.access.models import AccessTag
from gridapps.access.refusals import Refused
from gridapps.arguments import schemas
from gridapps.exports import queries as exports
from gridapps.promotion import changes
from gridapps.registry import queries, sharing
from gridapps.registry.models import App, Release, Share
from gridapps.runs import counts, operations
from gridapps.runs import queries as run_queries
from gridapps.runs.operations import Request
from gridapps.storage.interface import StorageUnavailable
from gridapps.web.forms import user_of

RELEASES_SHOWN = SHARES_SHOWN = 50
EXPORTS_SHOWN = 100
RUNS_SHOWN = 20
MAX_ARGUMENTS = 1024**2  # characters that are shown again


@dataclass(frozen=True)
class RunForm:
    """What the user entered, and what is wrong: a sentence, and pairs of JSON pointer and sentence."""

    arguments: str = "{}"
    export: str = ""
    error: str = ""
    faults: tuple[tuple[str, str], ...] = ()


@require_GET
@login_required
def show(request: HttpRequest, app_id: str) -> HttpResponse:
    """An App with its arguments; for its owner also its releases and how to push one."""
    return _page(request, _visible(request, app_id), RunForm())


def _page(request: HttpRequest, app: App, form: RunForm) -> HttpResponse:
    user = user_of(request)
    owns = queries.owns(user, app)
    administers = permissions.is_administrator(user)
    sees = owns or administers
    share = queries.grants(user, [app]).get(app.pk)
    terms = share or app
    return render(
        request,
        "app.html",
        {
            "app": app,
            "terms": terms,
            "owns": owns,
            "schema": json.dumps(terms.arguments, indent=2, ensure_ascii=False),
            "releases": queries.releases_visible_to(user, app)[:RELEASES_SHOWN] if sees else [],
            "shares": queries.shares_visible_to(user, app)[:SHARES_SHOWN] if sees else [],
            "attachments": share.attachments if share else [],
            "attached_to": share.release.digest if share else "",
            "changes": _changes(app) if sees else [],
            "counts": counts.counts_of_app(app) if sees else None,
            "shown": run_queries.shown_to(user)
            .filter(release__app=app)
            .order_by("-created_at", "-id")[:RUNS_SHOWN],
            "tags": AccessTag.objects.order_by("name") if administers else [],
            "runnable": queries.runnable_by(user).filter(pk=app.pk).exists(),
            "exports": exports.visible_to(user).order_by("-pk")[:EXPORTS_SHOWN],
            "exports_count": exports.visible_to(user).count(),
            "releases_count": queries.releases_visible_to(user, app).count() if sees else 0,
            "shares_count": queries.shares_visible_to(user, app).count() if sees else 0,
            "shown_count": run_queries.shown_to(user).filter(release__app=app).count(),
            "authority": settings.GRIDAPPS.authority,
            "form": form,
        },
        status=400 if form.error else 200,
    )


@require_POST
@login_required
def run(request: HttpRequest, app_id: str) -> HttpResponse:
    """Run the App on an export."""
    app = _visible(request, app_id)
    export = request.POST.get("export", "")
    given = RunForm(arguments=request.POST.get("arguments", "")[:MAX_ARGUMENTS], export=export)
    try:
        key = int(export) if re.fullmatch("[0-9]{1,18}", export) else 0
        wanted = Request(app=app_id, arguments=_arguments(request), export=key)
        submitted, _ = operations.submit(by=user_of(request), request=wanted)
    except Refused as error:
        return _page(request, app, replace(given, error=str(error), faults=tuple(error.fields)))
    except StorageUnavailable as error:
        return _page(request, app, replace(given, error=str(error)))
    return redirect("run", submitted.pk)


@require_POST
@login_required
def share(request: HttpRequest, app_id: str) -> HttpResponse:
    """Share a release with an access tag."""
    _visible(request, app_id)
    names = {name: request.POST.get(name, "") for name in ("release", "access_tag")}
    try:
        sharing.share(by=user_of(request), app_id=app_id, **names)
    except Refused as error:
        messages.error(request, str(error))
    return redirect("app", app_id)


def _arguments(request: HttpRequest) -> dict[str, Any]:
    """The arguments of the form. Raises schemas.InvalidArguments."""
    try:
        value = json.loads(request.POST.get("arguments", "").strip() or "{}")
        # Databases do not store NaN, lone surrogates and NUL.
        text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        value, text = None, b""
    if not isinstance(value, dict) or b"\\u0000" in text:
        raise schemas.InvalidArguments("The arguments are not a JSON object.", [])
    return value


def _visible(request: HttpRequest, app_id: str) -> App:
    found = queries.visible_to(user_of(request)).filter(app_id=app_id).first() if app_id.isascii() else None
    if found is None:
        raise Http404
    return found


def _changes(app: App) -> list[str]:
    """What sharing the newest release would change, compared with the newest share."""
    release = app.releases.filter(state=Release.State.VALID).first()
    shares = app.shares.filter(state=Share.State.ACTIVE).select_related("app", "release")
    share = shares.order_by("-activated_at").first()
    return changes.since(share, app=app, release=release) if share and release else []
