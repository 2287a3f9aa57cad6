"""What a log line belongs to: ids that a request or a task carries along, as far as context variables go."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

# In the order in which lines show them. docs/operations.md says what each is.
IDS = ("request", "address", "user", "run", "task", "attempt", "node", "hook", "delivery")

_ids: ContextVar[dict[str, str] | None] = ContextVar("ids", default=None)


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Within it, lines carry these ids as well. Only names among IDS are taken."""
    token = _ids.set({**current(), **_known(ids)})
    try:
        yield
    finally:
        _ids.reset(token)


def add(**ids: object) -> None:
    """From now on lines of the surrounding `bound` carry these ids as well; without one nothing happens."""
    found = _ids.get()
    if found is not None:
        found.update(_known(ids))


def current() -> Mapping[str, str]:
    """The ids of this moment."""
    return _ids.get() or {}


def _known(ids: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in ids.items() if name in IDS}
