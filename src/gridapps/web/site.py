"""The site of the administration, for administrators only, who are superusers."""

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from gridapps.access.models import User
from gridapps.access.permissions import is_administrator
from gridapps.runs import node_disk
from gridapps.runs.models import Node


class Administration(AdminSite):
    """Its first page links to the most used lists."""

    site_header = site_title = "GRiD Apps administration"
    index_template = "administration/index.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The first page. It tells which disks are nearly full."""
        here = node_disk.free()
        short = [f"The first machine: {here}."] if here.is_short else []
        for node in Node.objects.filter(session__isnull=False).order_by("name"):
            if (found := node_disk.disk_of(node)) and found.is_short:
                short.append(f"Node {node.name}: {found}.")
        return super().index(request, {**(extra_context or {}), "short_of_disk": short})

    def password_change(  # type: ignore[override]
        self, _request: HttpRequest, _extra_context: Any = None
    ) -> HttpResponse:
        """To the page of users, which limits and records the tries."""
        return redirect("connect")

    def has_permission(self, request: HttpRequest) -> bool:
        """Only administrators: partial permissions would show runs of other users."""
        return isinstance(request.user, User) and is_administrator(request.user)
