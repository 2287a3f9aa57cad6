"""Blocking of Apps and releases in the administration."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse

from gridapps.registry import sharing
from gridapps.registry.models import App, Release
from gridapps.runs import operations
from gridapps.web.administration.asking import BlockForm, asked
from gridapps.web.administration.operated import Operated, administrator


class Blocking(Operated):
    """Apps and releases, which can be blocked."""

    actions = ("block", "unblock")

    @admin.action(description="Block…")
    def block(self, request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse | None:
        title = f"Block {self.model._meta.verbose_name_plural} for all users, at once"
        form = asked(self, request, chosen, BlockForm, action="block", title=title, verb="Block")
        if isinstance(form, HttpResponse):
            return form
        by, given = administrator(request), form.cleaned_data
        self.for_each(
            request,
            chosen,
            lambda thing: operations.block(
                by=by, **_named(thing), reason=given["reason"], stop=given["running"] == "stop"
            ),
            done="{} blocked.",
        )
        return None

    @admin.action(description="Unblock")
    def unblock(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        by = administrator(request)
        self.for_each(
            request,
            chosen.filter(blocked_at__isnull=False),
            lambda thing: sharing.unblock(by=by, **_named(thing)),
            done="{} unblocked.",
        )


def _named(thing: Model) -> dict[str, Any]:
    if isinstance(thing, Release):
        return {"app_id": thing.app.app_id, "release": thing.digest}
    assert isinstance(thing, App), "nothing else is blocked"
    return {"app_id": thing.app_id}
