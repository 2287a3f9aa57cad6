"""Nodes and runs in the administration: to be looked at; nodes can be told to drain."""

from django.contrib import admin

from gridapps.audit.administration import Audited
from gridapps.runs.models import Node, Run, Task


class _TaskInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Task
    fields = readonly_fields = ("index", "exportfile", "state", "attempt", "node", "reason", "exit_code")
    show_change_link = False
    extra = 0
    can_delete = False

    def has_add_permission(self, *_: object, **__: object) -> bool:
        return False


@admin.register(Node)
class NodeAdmin(Audited):
    """Nodes as their workers describe them. One that drains claims nothing more; one that is gone may be
    deleted: a worker that works there writes its row again."""

    list_display = ("name", "last_seen_at", "slots", "cpus", "memory", "disk", "version", "draining")
    told = ("draining",)
    list_filter = ("draining",)
    readonly_fields = (
        *("name", "slots", "cpus", "memory", "disk", "version", "engine_version", "engine_latency"),
        *("started_at", "last_seen_at"),
    )
    exclude = ("session", "place")

    def has_add_permission(self, *_: object, **__: object) -> bool:
        return False


@admin.register(Run)
class RunAdmin(Audited):
    """Every run with its tasks. Users cancel their own."""

    list_display = ("id", "owner", "release", "state", "progress", "reason", "created_at", "ended_at")
    list_filter = ("state", "reason")
    search_fields = ("id", "owner__username", "release__app__app_id")
    inlines = (_TaskInline,)

    def has_add_permission(self, *_: object, **__: object) -> bool:
        return False

    def has_change_permission(self, *_: object, **__: object) -> bool:
        return False

    def has_delete_permission(self, *_: object, **__: object) -> bool:
        return False
