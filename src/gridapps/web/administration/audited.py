"""Records in the audit what is added, changed and deleted in the administration."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from gridapps.audit import record
from gridapps.web.administration.limited import Limited


class Audited(Limited, admin.ModelAdmin):  # type: ignore[type-arg]
    """The base of every class of the administration, as a test checks. Operations record themselves.

    `recorded`: the fields whose new values an entry shows.
    """

    recorded: tuple[str, ...] = ()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, or an action on chosen rows."""
        self.check_chosen(request)
        return super().changelist_view(request, extra_context)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        """Called in the transaction that adds the object."""
        entry = super().log_addition(request, obj, message)
        self._record(request, [obj], "added", entry)
        return entry

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        """Called in the transaction that changes the object."""
        entry = super().log_change(request, obj, message)
        self._record(request, [obj], "changed", entry)
        return entry

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Called in the transaction that deletes the objects, before it does."""
        self._record(request, queryset, "deleted", None)
        return super().log_deletions(request, queryset)

    def _record(
        self, request: HttpRequest, things: Iterable[Model], action: str, entry: LogEntry | None
    ) -> None:
        for thing in things:
            record.administered(
                by=request.user,
                subject=f"{thing._meta.model_name}:{thing.pk}",
                action=action,
                message=entry.get_change_message() if entry else "",
                values={name: getattr(thing, name) for name in self.recorded},
            )
