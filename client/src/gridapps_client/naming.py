"""Short names of runs: the first digits of an id, as in git, and `last`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from gridapps_client.errors import GridAppsError, NotFound
from gridapps_client.models import Run

LAST = "last"
_SHORTEST = 4  # digits
_DIGITS = re.compile(r"[0-9a-f]{4,32}")
_SHOWN = 5  # candidates


class Listing(Protocol):
    """What can list the runs of a user."""

    def runs(self, *, shown: bool = False, prefix: str | None = None) -> Iterator[Run]:
        """The user's runs, newest first."""


def find_run(listing: Listing, name: str) -> str:
    """The id that `name` means. See `Client.find_run`."""
    if name == LAST:
        for newest in listing.runs():
            return newest.id
        raise NotFound("You have no runs yet.", code="not-found")
    digits = name.strip().lower().replace("-", "")
    if not _DIGITS.fullmatch(digits):
        raise GridAppsError(
            f"{name!r} is not a run: write its id, the first {_SHORTEST} or more digits of it, or {LAST}.",
            code="usage",
        )
    if len(digits) == 32:
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    found = _beginning(listing, digits, shown=False) or _beginning(listing, digits, shown=True)
    if not found:
        raise NotFound(f"No run that you may see begins with {digits}.", code="not-found")
    if len(found) > 1:
        more = ", ..." if len(found) > _SHOWN else ""
        raise GridAppsError(
            f"Several runs begin with {digits}: {', '.join(found[:_SHOWN])}{more}.", code="ambiguous"
        )
    return found[0]


def _beginning(listing: Listing, digits: str, *, shown: bool) -> list[str]:
    found = islice(listing.runs(shown=shown, prefix=digits), _SHOWN + 1)
    # An older instance ignores the prefix.
    return [run.id for run in found if run.id.replace("-", "").startswith(digits)]
