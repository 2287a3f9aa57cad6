"""Remove expired browser sessions, tokens and unused authorization codes."""

from collections.abc import Iterator

from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, Grant, RefreshToken, clear_expired

_KINDS = {
    Session: "expired sessions",
    AccessToken: "expired access tokens",
    RefreshToken: "expired refresh tokens",
    Grant: "expired authorization codes",
}


def tidy(*, dry_run: bool = False) -> Iterator[str]:
    """Remove them, or with `dry_run` only count them; one line for each kind.

    A used refresh token is kept until it expires, because its second use reveals a theft.
    """
    before = {kind: kind.objects.count() for kind in _KINDS}
    with transaction.atomic():
        Session.objects.filter(expire_date__lt=timezone.now()).delete()
        clear_expired()
        removed = {kind: count - kind.objects.count() for kind, count in before.items()}
        transaction.set_rollback(dry_run)
    for kind, count in removed.items():
        if count > 0:
            yield f"{count} {_KINDS[kind]}"
