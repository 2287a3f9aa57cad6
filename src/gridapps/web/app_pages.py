"""The page of an App."""

import json

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from gridapps.registry import queries
from gridapps.web.forms import user_of

RELEASES_SHOWN = 50


@require_GET
@login_required
def show(request: HttpRequest, app_id: str) -> HttpResponse:
    """What the App does and takes; for its owner also the releases and how to push one."""
    user = user_of(request)
    app = queries.visible_to(user).filter(app_id=app_id).first() if app_id.isascii() else None
    if app is None:
        raise Http404
    owns = app.owner_id == user.pk
    sees = owns or user.is_superuser
    return render(
        request,
        "app.html",
        {
            "app": app,
            "owns": owns,
            "schema": json.dumps(app.arguments, indent=2, ensure_ascii=False),
            "releases": queries.releases_visible_to(user, app)[:RELEASES_SHOWN] if sees else [],
            "authority": settings.GRIDAPPS.authority,
        },
    )
