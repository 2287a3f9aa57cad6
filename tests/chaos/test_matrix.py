"""kill -9 of every part, at every state of a run, over both databases: nothing is lost, nothing completes
twice, nothing is left over.

`make test` runs a selection in which every victim and every state occurs on each instance that has them. The
selection changes with the commit. `make soak` runs all cases.
"""

import os
import time
from collections.abc import Callable

import pytest

from tests.chaos.rig import RECOVERS, Rig
from tests.chaos.states import STATES
from tests.chaos.victims import VICTIMS
from tests.fixtures.seed import SEED

pytestmark = pytest.mark.chaos

_ONLY_CLUSTERED = ("broker", "PostgreSQL", "PostgreSQL, longer than a lease", "engine")
_ONLY_EMBEDDED = ("engine with live-restore",)
# This order lets a part run for a while before it is killed again.
ALL = {
    "clustered": [(victim, state) for state in STATES for victim in VICTIMS if victim not in _ONLY_EMBEDDED],
    "embedded": [(victim, state) for state in STATES for victim in VICTIMS if victim not in _ONLY_CLUSTERED],
}


def _choice(cases: list[tuple[str, str]], shift: int) -> list[tuple[str, str]]:
    """One case per victim, the states in turn."""
    victims, states = list(dict.fromkeys(victim for victim, _ in cases)), list(STATES)
    return [(victim, states[(n + shift) % len(states)]) for n, victim in enumerate(victims)]


CHOSEN = ALL if os.environ.get("CHAOS") == "all" else {
    "clustered": _choice(ALL["clustered"], SEED), "embedded": _choice(ALL["embedded"], SEED + 3),
}  # fmt: skip


def _crash(rig: Rig, victim: str, state: str, note: Callable[[str, object], None]) -> None:
    """Run one case."""
    for name, value in (("database", "PostgreSQL" if rig.cluster else "SQLite"), ("victim", victim)):
        note(name, value)
    note("state", state)
    rig.until(rig.up, "up before the case", seconds=RECOVERS)
    with STATES[state](rig) as run:
        VICTIMS[victim].kill(rig)
        begun = time.monotonic()
    VICTIMS[victim].recover(rig)
    note("attempts", rig.assert_nothing_lost(run))
    note("seconds", f"{time.monotonic() - begun:.1f}")


@pytest.mark.parametrize(("victim", "state"), CHOSEN["clustered"])
def test_on_postgresql(clustered: Rig, victim: str, state: str, record_property):
    _crash(clustered, victim, state, record_property)


@pytest.mark.parametrize(("victim", "state"), CHOSEN["embedded"])
def test_on_sqlite(embedded: Rig, victim: str, state: str, record_property):
    _crash(embedded, victim, state, record_property)
