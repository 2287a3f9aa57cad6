"""The one function that writes a state, by the table of moves in a package's `states` module."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django.db.models import QuerySet

State = TypeVar("State", bound=str)
Moves = Mapping[State, frozenset[State]]


def move(rows: QuerySet[Any], to: State, moves: Moves[State], **changes: Any) -> int:
    """Move those rows that may become `to`, with changes of other columns; how many moved.

    The update itself names the states that it may leave: of two callers at once only one moves a row.
    """
    sources = [state for state, targets in moves.items() if to in targets]
    return rows.filter(state__in=sources).update(state=to, **changes)


def ends(moves: Moves[State]) -> frozenset[State]:
    """The states that nothing leaves."""
    return frozenset(state for state, targets in moves.items() if not targets)
