"""The pages of the administration that need more than one package: blocks, the queue, the end of a run."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from gridapps.access.administration import Operated, administrator
from gridapps.registry import admin as registry
from gridapps.registry import sharing
from gridapps.registry.models import App, Release
from gridapps.runs import admin as runs
from gridapps.runs import operations, overview
from gridapps.runs.models import Run

SHOWN = 200  # lanes, running tasks


class ReasonForm(forms.Form):
    """Why. The operation judges it."""

    reason = forms.CharField(
        max_length=sharing.MAX_REASON,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="One line, which users read.",
    )


class BlockForm(ReasonForm):
    """Why, and what becomes of what runs now."""

    running = forms.ChoiceField(
        label="Running tasks",
        choices=[("finish", "go on to their end"), ("stop", "are stopped")],
        initial="finish",
    )


def asked(
    page: Operated, request: HttpRequest, chosen: QuerySet[Any], form: type[ReasonForm], **words: str
) -> ReasonForm | HttpResponse:
    """The form, filled in; before that, the page that asks for it. `words`: action, title, verb."""
    filled = form(request.POST if "confirmed" in request.POST else None)
    if filled.is_bound and filled.is_valid():
        return filled
    site = page.admin_site.each_context(request)
    context = {**site, **words, "opts": page.model._meta, "form": filled, "chosen": chosen}
    return TemplateResponse(request, "administration/reason.html", context)


class _Blocking(Operated):
    """Apps and releases that can be kept from starting."""

    actions = ("block", "unblock")

    @admin.action(description="Block…")
    def block(self, request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse | None:
        title = f"Keep {self.model._meta.verbose_name_plural} from starting, for everybody and at once"
        form = asked(self, request, chosen, BlockForm, action="block", title=title, verb="Block")
        if not isinstance(form, ReasonForm):
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


admin.site.unregister([App, Release, Run])


@admin.register(App)
class BlockableAppAdmin(_Blocking, registry.AppAdmin):
    """Apps, with what the packages below cannot do."""


@admin.register(Release)
class BlockableReleaseAdmin(_Blocking, registry.ReleaseAdmin):
    """Releases, with what the packages below cannot do."""


@admin.register(Run)
class QueueAdmin(runs.RunAdmin):
    """Runs, and the page of the queue."""

    change_list_template = "administration/runs.html"
    actions = ("cancel",)

    @admin.action(description="Cancel…")
    def cancel(self, request: HttpRequest, chosen: QuerySet[Run]) -> HttpResponse | None:
        title = "Cancel runs of users"
        form = asked(self, request, chosen, ReasonForm, action="cancel", title=title, verb="Cancel the runs")
        if not isinstance(form, ReasonForm):
            return form
        by, reason = administrator(request), form.cleaned_data["reason"]
        self.for_each(
            request, chosen, lambda run: operations.stop(by=by, run=run, reason=reason), done="{} canceled."
        )
        return None

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(self.queue)
        return [path("queue/", page, name="runs_queue"), *super().get_urls()]

    def queue(self, request: HttpRequest) -> HttpResponse:
        """What waits and what runs, and where."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Queue",
            "nodes": overview.nodes(),
            "classes": list(overview.queue().items()),
            "lanes": overview.lanes(limit=SHOWN),
            "running": overview.running(limit=SHOWN),
        }
        return TemplateResponse(request, "administration/queue.html", context)
