"""What administrators may do with rows: always view them; add, change and delete where a class allows it."""

from collections.abc import Collection
from typing import Any

from django.contrib.admin.options import BaseModelAdmin
from django.http import HttpRequest


class Limited(BaseModelAdmin):  # type: ignore[type-arg]
    """`allowed`: which of add, change and delete the administration offers."""

    allowed: Collection[str] = ()

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return "add" in self.allowed and super().has_add_permission(request, *args)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return "change" in self.allowed and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return "delete" in self.allowed and super().has_delete_permission(request, obj)
