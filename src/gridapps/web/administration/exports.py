"""Exports in the administration. Users upload them, and `gridapps-server import` makes them."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from gridapps.exports.models import Export, ExportFile
from gridapps.runs import export_deletion
from gridapps.web.administration.limited import Limited
from gridapps.web.administration.operated import Operated, administrator
from gridapps.web.administration.reason_forms import ReasonForm, asked


class _FileInline(Limited, admin.TabularInline):  # type: ignore[type-arg]
    allowed = ("change",)
    model = ExportFile
    fields = readonly_fields = (
        "name", "size", "points", "las_version", "point_format", "crs_code", "crs_name", "sha256", "remarks",
    )  # fmt: skip
    extra = 0
    can_delete = False


@admin.register(Export)
class ExportAdmin(Operated):
    """Name and notes can be edited; the files cannot. Rows of deleted exports stay."""

    allowed = ("change",)
    list_display = ("name", "owner", "created_at", "deleted_at")
    list_filter = ("owner", ("deleted_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "owner__username")
    fields = ("name", "owner", "notes", "created_at", "deleted_at")
    readonly_fields = ("owner", "created_at", "deleted_at")
    inlines = (_FileInline,)
    actions = ("remove",)

    @admin.action(description="Delete…")
    def remove(self, request: HttpRequest, chosen: QuerySet[Export]) -> HttpResponse | None:
        title = "Delete exports of users, and cancel the runs on them"
        form = asked(
            self, request, chosen, ReasonForm, action="remove", title=title, verb="Delete the exports"
        )
        if not isinstance(form, ReasonForm):
            return form
        by, reason = administrator(request), form.cleaned_data["reason"]
        self.for_each(
            request,
            chosen,
            lambda export: export_deletion.remove_export(by=by, export=export, reason=reason),
            done="{} deleted.",
        )
        return None
