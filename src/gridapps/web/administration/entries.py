"""The audit in the administration. Administrators can search and download it, but not change it."""

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from gridapps.audit import queries
from gridapps.audit.models import Entry
from gridapps.web.administration.audited import Audited


class _OfEvent(admin.SimpleListFilter):
    """Filters by event. The choices are known without a query."""

    title = parameter_name = "event"

    def lookups(self, *_: object) -> list[tuple[str, str]]:
        return [(event.value, event.value) for event in Entry.Event]

    def queryset(self, _: HttpRequest, queryset: QuerySet[Entry]) -> QuerySet[Entry]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(Entry)
class EntryAdmin(Audited):
    """Who did what, and who was refused, the newest first."""

    list_display = ("at", "event", "who", "subject", "details", "address", "request")
    list_filter = (_OfEvent, "at")
    search_fields = ("=actor", "subject", "=request", "=address")
    search_help_text = (
        "An actor (user:5), the beginning of a subject (run:, app:roads), a request or an address."
    )
    actions = ("download",)
    show_full_result_count = False  # counting a large table is slow

    @admin.display(description="actor", ordering="actor")
    def who(self, entry: Entry) -> str:
        """The user's present name. Retired users have none."""
        kind, _, key = entry.actor.partition(":")
        user = get_user_model().objects.filter(pk=key).first() if kind == "user" else None
        return f"{user} ({entry.actor})" if user else entry.actor

    @admin.action(description="Download as JSON lines")
    def download(self, _: HttpRequest, chosen: QuerySet[Entry]) -> StreamingHttpResponse:
        answer = StreamingHttpResponse(
            queries.lines(chosen.order_by("pk").iterator()), content_type="application/x-ndjson"
        )
        answer["Content-Disposition"] = 'attachment; filename="audit.jsonl"'
        return answer
