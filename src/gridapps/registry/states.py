"""The states of shares, as data. docs/states.md is generated from this table."""

from django.db.models import TextChoices

from gridapps.moves import Moves, ends


class ShareState(TextChoices):
    COPYING = "copying"
    ACTIVE = "active"
    REVOKED = "revoked"
    FAILED = "failed"


SHARE_MOVES: Moves[ShareState] = {
    ShareState.COPYING: frozenset({ShareState.ACTIVE, ShareState.REVOKED, ShareState.FAILED}),
    ShareState.ACTIVE: frozenset({ShareState.REVOKED}),
    ShareState.REVOKED: frozenset(),
    ShareState.FAILED: frozenset(),
}
OPEN = frozenset(ShareState) - ends(SHARE_MOVES)
