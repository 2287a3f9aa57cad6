"""Lists of which a page shows some rows at a time. Several of them on one page turn independently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest

T = TypeVar("T", bound=Model)
ON_A_PAGE = 20


@dataclass(frozen=True)
class PagedList(Generic[T]):
    """The rows of one page, and the queries that lead to its neighbours. `name`: the query's parameter."""

    name: str
    rows: Page[T]
    before: str
    after: str


def paged(request: HttpRequest, name: str, rows: QuerySet[T], *, size: int = ON_A_PAGE) -> PagedList[T]:
    """The page that the query asks for: the nearest there is. `size`: rows on a page."""
    page = Paginator(rows, size).get_page(request.GET.get(name))

    def query(number: int) -> str:
        other = request.GET.copy()
        other[name] = str(number)
        return f"?{other.urlencode()}#{name}"

    return PagedList(name, page, query(page.number - 1), query(page.number + 1))
