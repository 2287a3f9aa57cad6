"""Nodes and runs in the administration. Nodes can be drained, and runs can be canceled."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from gridapps.runs import nodes, operations, overview
from gridapps.runs.models import Node, Run
from gridapps.web.administration.asking import ReasonForm, asked
from gridapps.web.administration.details import Details, details
from gridapps.web.administration.operated import Operated, administrator

SHOWN = 200  # lanes, running tasks


_OF_A_TASK = ("index", "exportfile", "state", "attempt", "node", "reason", "exit_code")


@admin.register(Node)
class NodeAdmin(Operated):
    """Nodes as their workers describe them. A draining node claims no tasks. The row of a removed node can be
    deleted; a running worker writes it again."""

    allowed = ("change", "delete")
    list_display = ("name", "standing", "running", "held", "slots", "cpus", "version", "last_seen_at")
    list_filter = ("draining",)
    readonly_fields = (
        *("name", "slots", "cpus", "memory", "disk", "version", "engine_version", "engine_latency", "stuck"),
        *("free_disk", "min_free_disk", "started_at", "last_seen_at", "draining", "reserved"),
    )
    exclude = ("session", "place")
    actions = ("drain", "undrain")

    @admin.display(description="state")
    def standing(self, node: Node) -> str:
        return overview.loads_of([node])[0].standing

    @admin.display(description="running tasks")
    def running(self, node: Node) -> int:
        return overview.loads_of([node])[0].running

    @admin.display(description="stuck containers")
    def held(self, node: Node) -> int:
        return len(node.stuck.splitlines())

    @admin.action(description="Drain (claim no more tasks)")
    def drain(self, request: HttpRequest, chosen: QuerySet[Node]) -> None:
        self._set(request, chosen, draining=True, done="{} nodes claim no more tasks.")

    @admin.action(description="Undrain (claim tasks again)")
    def undrain(self, request: HttpRequest, chosen: QuerySet[Node]) -> None:
        self._set(request, chosen, draining=False, done="{} nodes claim tasks again.")

    def _set(self, request: HttpRequest, chosen: QuerySet[Node], *, draining: bool, done: str) -> None:
        by = administrator(request)
        self.for_each(
            request, chosen, lambda node: nodes.set_draining(by=by, node=node, draining=draining), done=done
        )


@admin.register(Run)
class RunAdmin(Operated):
    """Every run with its tasks, without arguments, outputs and logs; and the page of the queue."""

    list_display = ("id", "owner", "app", "state", "progress", "reason", "created_at", "ended_at")
    list_filter = ("state", "reason", "shown_to_developer")
    list_select_related = ("owner", "release__app")
    search_fields = ("id", "owner__username", "release__app__app_id")
    show_full_result_count = False  # counting a large table is slow
    exclude = ("arguments", "request_key", "request_hash", "message")
    change_list_template = "administration/runs.html"
    actions = ("cancel",)

    def details(self, request: HttpRequest, run: Run) -> Details:
        tasks = run.tasks.select_related("exportfile").order_by("index")
        return details(request, "tasks", tasks, title="Tasks", fields=_OF_A_TASK)

    @admin.display(description="App")
    def app(self, run: Run) -> str:
        return run.release.app.app_id

    @admin.action(description="Cancel…")
    def cancel(self, request: HttpRequest, chosen: QuerySet[Run]) -> HttpResponse | None:
        title = "Cancel runs of users"
        form = asked(self, request, chosen, ReasonForm, action="cancel", title=title, verb="Cancel the runs")
        if isinstance(form, HttpResponse):
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
        """The queue, running tasks and nodes."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Queue",
            "nodes": overview.nodes(),
            "classes": list(overview.queue().items()),
            "lanes": overview.lanes(limit=SHOWN),
            "running": overview.running(limit=SHOWN),
        }
        return TemplateResponse(request, "administration/queue.html", context)
