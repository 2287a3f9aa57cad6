"""Exports in the administration. Users upload them, and `gridapps-server import` makes them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from gridapps.exports import naming
from gridapps.exports.models import Export
from gridapps.runs import export_deletion
from gridapps.web.administration.asking import ReasonForm, asked
from gridapps.web.administration.details import Details, details
from gridapps.web.administration.operated import Operated, administrator

_OF_A_FILE = (
    "name", "size", "points", "las_version", "point_format", "crs_code", "crs_name", "sha256", "remarks",
)  # fmt: skip


class _ExportForm(forms.ModelForm):  # type: ignore[type-arg]
    """Names follow the same rule as those that users give."""

    class Meta:
        model = Export
        fields = ("name", "notes")

    def clean_name(self) -> str:
        """The name as stored."""
        name: Any = self.cleaned_data["name"]
        if not naming.is_name(name):
            raise forms.ValidationError(naming.RULE)
        return naming.checked_name(name)


@admin.register(Export)
class ExportAdmin(Operated):
    """Name and notes can be edited; the files cannot. Rows of deleted exports stay."""

    allowed = ("change",)
    form = _ExportForm
    list_display = ("name", "owner", "created_at", "deleted_at")
    list_filter = ("owner", ("deleted_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "owner__username")
    fields = ("name", "owner", "notes", "created_at", "deleted_at")
    readonly_fields = ("owner", "created_at", "deleted_at")
    actions = ("remove",)

    def details(self, request: HttpRequest, export: Export) -> Details:
        files = export.files.order_by("pk")
        return details(request, "files", files, title="Files", fields=_OF_A_FILE)

    @admin.action(description="Delete…")
    def remove(self, request: HttpRequest, chosen: QuerySet[Export]) -> HttpResponse | None:
        title = "Delete exports of users, and cancel the runs on them"
        form = asked(
            self, request, chosen, ReasonForm, action="remove", title=title, verb="Delete the exports"
        )
        if isinstance(form, HttpResponse):
            return form
        by, reason = administrator(request), form.cleaned_data["reason"]
        self.for_each(
            request,
            chosen,
            lambda export: export_deletion.remove_export(by=by, export=export, reason=reason),
            done="{} deleted.",
        )
        return None
