"""Exports in the administration. `gridapps-server import` makes them."""

from django.contrib import admin

from gridapps.exports.models import Export, ExportFile
from gridapps.web.administration.audited import Audited
from gridapps.web.administration.limited import Limited


class _FileInline(Limited, admin.TabularInline):  # type: ignore[type-arg]
    allowed = ("change",)
    model = ExportFile
    fields = readonly_fields = ("name", "size", "points", "las_version", "point_format", "crs_name", "sha256")
    extra = 0
    can_delete = False


@admin.register(Export)
class ExportAdmin(Audited):
    """Name and notes can be edited; the files cannot."""

    allowed = ("change",)
    list_display = ("name", "owner", "created_at")
    list_filter = ("owner",)
    search_fields = ("name", "owner__username")
    fields = ("name", "owner", "notes", "created_at")
    readonly_fields = ("owner", "created_at")
    inlines = (_FileInline,)
