"""What administrators may do with rows: always view them; add, change and delete where a class allows it.

They may filter by what a class offers, and by nothing else: a filter can tell the content of a hidden field.
"""

from collections.abc import Collection, Iterator
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import BaseModelAdmin
from django.core.exceptions import BadRequest, ValidationError
from django.http import HttpRequest

_COMPARISONS = ("exact", "isnull", "isempty", "gte", "lt")  # what the filters of Django link to


class Limited(BaseModelAdmin):  # type: ignore[type-arg]
    """`allowed`: which of add, change and delete the administration offers."""

    allowed: Collection[str] = ()

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return "add" in self.allowed and super().has_add_permission(request, *args)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return "change" in self.allowed and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return "delete" in self.allowed and super().has_delete_permission(request, obj)

    def lookup_allowed(self, lookup: str, _value: str, request: HttpRequest) -> bool:
        """Only what the filters of the list link to. Django refuses others with 400."""
        return lookup in set(self._lookups(request))

    def _lookups(self, request: HttpRequest) -> Iterator[str]:
        for offered in self.get_list_filter(request):  # type: ignore[attr-defined]
            if isinstance(offered, type) and issubclass(offered, SimpleListFilter):
                yield str(offered.parameter_name)
                continue
            field = offered[0] if isinstance(offered, tuple) else offered
            yield str(field)
            for comparison in _COMPARISONS:
                yield f"{field}__{comparison}"
                yield f"{field}__id__{comparison}"

    def check_chosen(self, request: HttpRequest) -> None:
        """Raise BadRequest (400) for keys of chosen rows that no row can have."""
        key = self.model._meta.pk
        for chosen in request.POST.getlist("_selected_action"):
            try:
                key.run_validators(key.to_python(chosen))
            except ValidationError:
                raise BadRequest("A chosen row has an impossible key.") from None
