"""Tables of attempts: every row is tried, and the failure names all that succeeded."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def assert_held(tries: Mapping[str, T] | Iterable[T], got_through: Callable[[T], object]) -> None:
    """Try every row. `got_through` returns what the attacker got, or nothing."""
    rows = tries if isinstance(tries, Mapping) else {repr(row)[:200]: row for row in tries}
    assert rows, "an empty table proves nothing"
    found = {}
    for name, row in rows.items():
        try:
            if got := got_through(row):
                found[name] = got
        except Exception as error:  # the remaining rows are tried as well
            found[name] = repr(error)
    assert not found, f"{len(found)} of {len(rows)} got through:\n" + "\n".join(
        f"  {name}: {str(got)[:300]}" for name, got in found.items()
    )
