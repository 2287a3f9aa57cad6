"""The one function that writes a state, by the table of moves in a package's `states` module."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django.db.models import QuerySet

State = TypeVar("State", bound=str)
Moves = Mapping[State, frozenset[State]]


def move(rows: QuerySet[Any], to: State, moves: Moves[State], **changes: Any) -> int:
    """Move the rows that may become `to`, and write `changes` to other columns. Returns how many moved.

    The update itself filters by the states that `to` may follow, so only one of two concurrent callers moves
    a row.
    """
    sources = [state for state, targets in moves.items() if to in targets]
    return rows.filter(state__in=sources).update(state=to, **changes)


def ends(moves: Moves[State]) -> frozenset[State]:
    """The terminal states."""
    return frozenset(state for state, targets in moves.items() if not targets)
