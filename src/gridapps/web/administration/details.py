"""Rows that belong to an object, on its page in the administration: some at a time, and not editable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.admin.utils import display_for_field
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from gridapps.web.paged_lists import PagedList, paged


@dataclass(frozen=True)
class Details:
    """`rows`: the cells of each row, under `headings`."""

    title: str
    headings: list[str]
    listed: PagedList[Any]
    rows: list[list[str]]


def details(
    request: HttpRequest, name: str, found: QuerySet[Any], *, title: str, fields: tuple[str, ...]
) -> Details:
    """One page of these rows. `name`: the query's parameter; `fields`: the columns."""
    columns = [found.model._meta.get_field(field) for field in fields]
    listed = paged(request, name, found)

    def cell(row: Model, column: Any) -> str:
        return str(display_for_field(getattr(row, column.name), column, "-"))

    return Details(
        title=title,
        headings=[str(column.verbose_name) for column in columns],
        listed=listed,
        rows=[[cell(row, column) for column in columns] for row in listed.rows],
    )
