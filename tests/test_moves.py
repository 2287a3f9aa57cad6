"""States: their tables are whole, and nothing but `move` writes them."""

import ast
from pathlib import Path
from typing import Any

import pytest

import gridapps
from gridapps.hooks.states import DELIVERY_MOVES, DeliveryState
from gridapps.moves import Moves
from gridapps.registry.states import SHARE_MOVES, ShareState
from gridapps.runs.states import MOVES, State

SOURCE = Path(gridapps.__file__).parent


@pytest.mark.parametrize(
    ("states", "moves", "first"),
    [
        (State, MOVES, State.QUEUED),
        (ShareState, SHARE_MOVES, ShareState.COPYING),
        (DeliveryState, DELIVERY_MOVES, DeliveryState.WAITING),
    ],
)
def test_every_state_is_in_the_table_and_can_be_reached(states: Any, moves: Moves[Any], first: str) -> None:
    assert set(moves) == set(states)
    reached, todo = set(), {first}
    while todo:
        reached |= todo
        todo = {target for state in todo for target in moves[state]} - reached
    assert reached == set(states)


def test_nothing_but_move_updates_a_state() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"update", "bulk_update"}
        and any(keyword.arg == "state" for keyword in node.keywords)
    ]
    # Of developers: an administrator may decide anything at any time.
    assert [place for place in found if not place.startswith(("moves.py", "access/"))] == []
