"""Ids of the current request or task, in context variables. Log lines and audit entries carry them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

# In the order of log lines; docs/operations.md describes each.
IDS = ("request", "address", "user", "run", "task", "attempt", "node", "hook", "delivery")

_ids: ContextVar[dict[str, str] | None] = ContextVar("ids", default=None)


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Log lines inside the block carry these ids as well. Names that are not in IDS are ignored."""
    token = _ids.set({**current(), **_known(ids)})
    try:
        yield
    finally:
        _ids.reset(token)


def add(**ids: object) -> None:
    """Add ids to the surrounding `bound`; without one, do nothing."""
    found = _ids.get()
    if found is not None:
        found.update(_known(ids))


def current() -> Mapping[str, str]:
    """The ids that are bound now."""
    return _ids.get() or {}


def _known(ids: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in ids.items() if name in IDS}
