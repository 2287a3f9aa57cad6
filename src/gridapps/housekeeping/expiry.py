"""Remove expired browser sessions, tokens, unused authorization codes, logins of devices and attachments."""

from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, Grant, RefreshToken, clear_expired

from gridapps.access import device_logins
from gridapps.access.models import DeviceLogin
from gridapps.pushes import pending_attachments
from gridapps.registry.models import PendingAttachment

_KINDS = {
    Session: "expired sessions",
    AccessToken: "expired access tokens",
    RefreshToken: "expired refresh tokens",
    Grant: "expired authorization codes",
    PendingAttachment: "attachments without a release",
    DeviceLogin: "expired logins of devices",
}


def plan() -> list[str]:
    """A line for each kind that `tidy` would remove: it is done, and rolled back."""
    with transaction.atomic():
        lines = tidy()
        transaction.set_rollback(True)
    return lines


def tidy() -> list[str]:
    """Remove them; a line for each kind.

    A used refresh token is kept until it expires, because its second use reveals a theft.
    """
    with transaction.atomic():
        before = {kind: kind.objects.count() for kind in _KINDS}
        Session.objects.filter(expire_date__lt=timezone.now()).delete()
        clear_expired()
        pending_attachments.remove_expired()
        device_logins.forget_expired(timezone.now())
        removed = {kind: count - kind.objects.count() for kind, count in before.items()}
    return [f"{count} {_KINDS[kind]}" for kind, count in removed.items() if count > 0]
